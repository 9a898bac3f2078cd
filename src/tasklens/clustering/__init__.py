"""Cells to clusters."""
