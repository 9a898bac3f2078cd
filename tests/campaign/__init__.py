"""A campaign of attacks on the command line: kills, damaged files, input made at random.

Run it by ``make fuzz MINUTES=n``; an attack is repeated by ``--only KIND:NUMBER``.
"""
