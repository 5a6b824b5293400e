"""Accuracies and the confusion matrix of a classifier's scores. Pure functions."""

from __future__ import annotations

import torch
from torch import Tensor


def best(scores: Tensor, k: int) -> Tensor:
    """The k best classes ``[N,min(k,C)]`` int64, best first; of equal ones the lower number."""
    return scores.argsort(dim=1, descending=True, stable=True)[:, :k]


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Share of samples whose class is among the k best.

    Args:
        scores: ``[N,C]``, N > 0.
        labels: ``[N]`` int64 in ``0..C-1``.
        k: a k beyond C counts all classes.
    """
    return (best(scores, k) == labels[:, None]).any(1).double().mean().item()


def confusion_matrix(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Samples by true class (rows) and predicted class (columns): ``[C,C]`` int64.

    Args:
        labels: ``[N]`` int64 in ``0..C-1``.
        predicted: ``[N]`` int64 in ``0..C-1``.
        classes: C.
    """
    cells = torch.bincount(labels * classes + predicted, minlength=classes * classes)
    return cells.view(classes, classes)


def class_accuracy(confusion: Tensor) -> Tensor:
    """Share of each class's samples that are right: ``[C,C]`` -> ``[C]`` float64; NaN of none."""
    return confusion.diagonal().double() / confusion.sum(1)
