"""Objectives: a pure function each, and a thin module for the trainer."""
