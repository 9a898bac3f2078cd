"""What a model is asked, and what is known of each instance without a model.

In: settings, or files of labelled prompts. Out: token prompts, and `Instances` with the task, input
and output of each.
"""
