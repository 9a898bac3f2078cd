"""Cluster labels and hidden states to numbers, in one tidy table.

In: labels, states and `Instances`. Out: rows of `score_table.SCHEMA`, and summaries of them.
"""
