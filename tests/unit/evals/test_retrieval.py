"""Retrieval against the reference implementation and scikit-learn."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from sce_video.evals import retrieval
from sce_video.evals.retrieval import prepare, retrieve
from tests.conftest import GOLDEN
from tests.unit.evals.small_set import blobs

CASES = json.loads((GOLDEN / "retrieval.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["name"])
def test_retrieval_golden(case: dict[str, Any]) -> None:
    p = case["params"]
    x = {
        name: torch.tensor(v, dtype=torch.float64 if "features" in name else torch.long)
        for name, v in case["inputs"].items()
    }
    result = retrieve(
        x["query_features"],
        x["query_labels"],
        x["bank_features"],
        x["bank_labels"],
        ranks=tuple(p["ranks"]),
        center=p["center"],
        normalize=p["normalize"],
    )
    assert [round(result.recall[k], 4) for k in p["ranks"]] == case["expected_recall_4_decimals"]


def test_mean_average_precision_equals_sklearn() -> None:
    (q, ql), (b, bl) = blobs(0), blobs(1, 90)
    similarity = (prepare(q) @ prepare(b).T).numpy()
    expected = [
        average_precision_score((bl == label).numpy(), row)
        for row, label in zip(similarity, ql, strict=True)
    ]
    found = retrieve(q, ql, b, bl).precision.mean().item()
    assert found == pytest.approx(float(np.mean(expected)), abs=1e-12)


def test_a_class_missing_from_the_bank_is_a_miss() -> None:
    q, b = torch.eye(2), torch.eye(2)
    result = retrieve(q, torch.tensor([0, 7]), b, torch.tensor([0, 0]), center=False)
    assert result.recall[1] == 0.5
    assert result.precision.mean().item() == 0.5
    with pytest.raises(ValueError, match="queries and a bank"):
        retrieve(q[:0], torch.zeros(0, dtype=torch.long), b, torch.tensor([0, 0]))


@pytest.mark.parametrize("pairs", [2**22, 1000], ids=["at-once", "by-fives"])
def test_chunks_change_nothing(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_PAIRS_AT_ONCE", pairs)
    (q, ql), (b, bl) = blobs(2), blobs(3, 200)
    result = retrieve(q, ql, b, bl)
    similarity = (prepare(q) @ prepare(b).T).numpy()
    assert result.nearest[:, 0].tolist() == similarity.argmax(1).tolist()
    expected = [
        average_precision_score((bl == label).numpy(), row)
        for row, label in zip(similarity, ql, strict=True)
    ]
    np.testing.assert_allclose(result.precision.numpy(), expected, atol=1e-12)
    assert result.first.tolist() == (bl[result.nearest[:, 0]] == ql).tolist()
    assert result.nearest.untyped_storage().nbytes() == 60 * 50 * 8  # not the whole ranking
