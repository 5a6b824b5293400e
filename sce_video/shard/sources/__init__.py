"""Data sets as they are distributed -> :class:`Record`, one module a data set."""
