"""Draw tables, views and verdicts as figures and as one HTML page.

In: arrays and tables. Out: Matplotlib figures and bytes. It knows no path and imports no torch.
"""
