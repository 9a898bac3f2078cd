"""The figures of docs/results/reproduction.md that the tool itself does not draw, one file each.

They are drawn from what `tables` reads of the committed files. Lines are means over seeds, bands
are ranges over seeds.
"""
