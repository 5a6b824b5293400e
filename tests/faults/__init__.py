"""Mutated inputs: each reader meets bad ones, and has to read them or refuse them in a line."""
