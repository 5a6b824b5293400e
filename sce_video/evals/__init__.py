"""Evaluation heads: features, retrieval, kNN."""
