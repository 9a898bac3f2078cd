"""Networks, their training, and their hidden states by name.

In: token prompts and settings. Out: checkpoints, and a `Harvest` of hidden states (N, D) by name.
"""
