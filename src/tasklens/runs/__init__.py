"""Run directories: their settings, their files, and the stages that fill them.

The only package that knows paths. In: settings. Out: a `Run`, whose stages did what was missing.
"""
