"""Tars that others made, without our index."""
