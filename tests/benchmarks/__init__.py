"""This package beside other libraries and beside its own bare parts.

``python -m tests.benchmarks.NAME`` prints a table, with NAME = shard (the converter), decode (clips
out of videos), loader (batches from worker processes), augment, objective (against a queue) or step
(a training step). All of a table comes from one run, its rows taken in turn, so that other load on
the machine meets them alike.
"""
