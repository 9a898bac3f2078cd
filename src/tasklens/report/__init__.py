"""Tables, views and verdicts to figures and to one HTML page.

In: arrays and tables. Out: matplotlib figures and bytes. It knows no path and imports no torch.
"""
