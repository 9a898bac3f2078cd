"""Cluster arrays, and map them to the plane.

In: hidden states (N, D). Out: labels, embeddings and frames. It knows no task and writes no file.
"""
