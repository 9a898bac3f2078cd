"""Rates at which checks of findings are wrong: networks, their scores, and the tables of these."""
