"""What every other package uses: errors, seeds, settings, files, tables, workers.

No science and no torch. It imports no other package of tasklens.
"""
