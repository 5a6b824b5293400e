"""Accuracies and confusion against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from sce_video.evals import accuracy


def drawn(n: int = 200, classes: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(0, classes - 1, (n,), generator=generator)  # the last has no sample
    noise = torch.randn(n, classes, generator=generator)
    return (noise + 1.5 * torch.eye(classes)[labels]).softmax(1), labels


def test_accuracies_equal_sklearn() -> None:
    values, labels = drawn()
    y, p = labels.numpy(), values.numpy()
    for k in (1, 5):
        expected = top_k_accuracy_score(y, p, k=k, labels=np.arange(11))
        assert accuracy.top_k_accuracy(values, labels, k) == pytest.approx(expected, abs=1e-12)
    counts = accuracy.confusion_matrix(labels, accuracy.best(values, 1)[:, 0], 11)
    expected_counts = confusion_matrix(y, p.argmax(1), labels=np.arange(11))
    assert counts.tolist() == expected_counts.tolist()
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = balanced_accuracy_score(y, p.argmax(1))
    assert accuracy.class_accuracy(counts).nanmean().item() == pytest.approx(expected, abs=1e-12)
    assert accuracy.class_accuracy(counts)[10].isnan()
    assert accuracy.top_k_accuracy(values, labels, 50) == 1.0


def test_of_equal_scores_the_lower_class_wins() -> None:
    assert accuracy.best(torch.tensor([[0.2, 0.4, 0.4, 0.0]]), 3).tolist() == [[1, 2, 0]]
