"""Test the findings of the paper: curves to statistics, statistics to verdicts.

In: labels or a table of scores. Out: a `Verdict` per finding, with an interval. No torch, no files.
"""
