"""Mutated inputs: every reader of files meets bad ones, which it has to read or refuse in a line."""
