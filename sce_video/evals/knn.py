"""Weighted k-nearest-neighbour classification of features. Pure functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def knn_predict(
    query: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    classes: int,
    *,
    k: int = 20,
    temp: float = 0.07,
) -> Tensor:
    """Class scores of each query: its k nearest bank items vote with ``exp(cosine / temp)``.

    Args:
        query: ``[Q,F]``.
        bank: ``[B,F]``.
        bank_labels: ``[B]`` int64 in ``0..classes-1``.
        classes: number of classes.
        k: neighbours; all of a smaller bank.
        temp: of the votes, > 0.

    Returns:
        Scores ``[Q,classes]``; the class of a query is the largest.
    """
    similarity, nearest = (F.normalize(query, dim=1) @ F.normalize(bank, dim=1).T).topk(
        min(k, len(bank)), dim=1
    )
    votes = ((similarity - similarity[:, :1]) / temp).exp()  # relative to the nearest: no overflow
    scores = torch.zeros(len(query), classes, dtype=votes.dtype)
    return scores.scatter_add_(1, bank_labels[nearest], votes)


def knn_accuracy(
    query: Tensor,
    query_labels: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    *,
    k: int = 20,
    temp: float = 0.07,
) -> float:
    """Share of queries whose kNN class is right; arguments as :func:`knn_predict`."""
    classes = int(torch.cat([query_labels, bank_labels]).max()) + 1
    predicted = knn_predict(query, bank, bank_labels, classes, k=k, temp=temp).argmax(1)
    return (predicted == query_labels).double().mean().item()
