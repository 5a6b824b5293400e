"""Views, accuracies and confusion against the reference's figures and scikit-learn."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from sce_video.evals import scores
from sce_video.evals.confusion import colour, confusion_png
from tests.conftest import GOLDEN

FILE = json.loads((GOLDEN / "view_ensemble.json").read_text())
POOLS = {
    "same_avg": scores.mean_of_views,
    "same_max": lambda views: views.amax(1),  # not of our protocol; any function of views will do
    "views_softmax_then_mean": scores.mean_probability,
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", FILE["cases"], ids=lambda c: c["name"])
def test_ensemble_of_views_golden(case: dict[str, Any], dtype: str) -> None:
    given, views = case["inputs"], case["params"]["num_aug"]
    values = torch.tensor(given.get("values", given.get("logits")), dtype=getattr(torch, dtype))
    found = POOLS[case["name"]](values.view(-1, views, values.shape[1]))
    torch.testing.assert_close(
        found,
        torch.tensor(case["expected"]["values"], dtype=found.dtype),
        **FILE["tolerance"][dtype],
    )
    if "argmax" in case["expected"]:
        assert scores.best(found, 1)[:, 0].tolist() == case["expected"]["argmax"]


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
        assert scores.top_k_accuracy(values, labels, k) == pytest.approx(expected, abs=1e-12)
    counts = scores.confusion_matrix(labels, scores.best(values, 1)[:, 0], 11)
    expected_counts = confusion_matrix(y, p.argmax(1), labels=np.arange(11))
    assert counts.tolist() == expected_counts.tolist()
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = balanced_accuracy_score(y, p.argmax(1))
    assert scores.mean_class_accuracy(counts) == pytest.approx(expected, abs=1e-12)
    assert scores.class_accuracy(counts)[10].isnan()
    assert scores.top_k_accuracy(values, labels, 50) == 1.0


def test_of_equal_scores_the_lower_class_wins() -> None:
    assert scores.best(torch.tensor([[0.2, 0.4, 0.4, 0.0]]), 3).tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("classes", [1, 3, 101, 1000])
def test_confusion_picture_shows_every_cell(classes: int) -> None:
    counts = np.diag(np.full(classes, 4))
    counts[classes // 2] = 0
    names = [f"Class {i} of a long name that does not fit" for i in range(classes)]
    image = Image.open(io.BytesIO(confusion_png(counts, names, "split1:test: top-1 0.5")))
    pixels = np.asarray(image)
    cell = max(1, min(40, 800 // classes))
    dark = (pixels == colour(np.array([1.0]))[0]).all(-1)
    columns = np.flatnonzero(dark.sum(0) >= cell)
    if classes > 3:  # the diagonal spans the matrix
        assert columns[-1] - columns[0] >= (classes - 1) * cell - 1
    grey = (pixels == (225, 225, 225)).all(-1).sum(1) >= classes * cell
    assert grey.sum() == cell  # the class without a sample: one row
    assert max(image.size) < 1400
