"""The examples of docs/explanation: small data whose right answer is known, one file per page.

`python docs/make_explanations.py` writes their tables and figures into the pages. Nothing is
computed by other code than that of the package.
"""
