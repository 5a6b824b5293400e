"""Trunks, heads, momentum encoder, queue: the networks of Siamese pretraining."""
