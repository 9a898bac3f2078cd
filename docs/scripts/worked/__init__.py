"""The examples of docs/explanation: small data whose right answer is known, one file per page.

`python docs/scripts/make_explanations.py` writes their tables and figures into the pages. All
numbers are computed by the package.
"""
