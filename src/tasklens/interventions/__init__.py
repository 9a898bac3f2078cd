"""Edit hidden states and ask whether the answers follow, which shows if clusters are used.

In: an Editor (a model with prompts), states of a split to take centroids from, and what each prompt
should be answered under each task. Out: answers and likelihoods of every edit and control, and a
tidy table of effects. No torch, no files.
"""
