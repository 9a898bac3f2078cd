"""Arrays to cluster labels and to maps in the plane.

In: states (N, D). Out: labels, embeddings and frames. It knows no task and writes no file.
"""
