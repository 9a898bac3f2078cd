"""The prompts of a model, and what is known of each instance without a model.

In: settings, or files of labelled prompts. Out: token prompts, and `Instances` with the task, input
and output of each.
"""
