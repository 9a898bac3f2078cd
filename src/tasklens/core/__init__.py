"""Errors, seeds, settings, files, tables and workers, which every other package uses.

This package has no science and no torch, and imports no other package of tasklens.
"""
