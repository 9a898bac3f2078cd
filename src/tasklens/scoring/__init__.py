"""Score cluster labels and hidden states, in one tidy table.

In: labels, hidden states and `Instances`. Out: rows of `score_table.SCHEMA`, and summaries of them.
"""
