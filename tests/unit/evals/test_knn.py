"""Weighted kNN against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from sce_video.evals import retrieval
from sce_video.evals.accuracy import top_k_accuracy
from sce_video.evals.knn import knn_predict
from tests.unit.evals.small_set import blobs


@pytest.mark.parametrize("pairs", [2**22, 1000], ids=["at-once", "by-fives"])
@pytest.mark.parametrize(("k", "temp"), [(20, 0.07), (1, 0.07), (50, 1.0), (5, 0.01)])
def test_knn_equals_sklearn(
    k: int, temp: float, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "_PAIRS_AT_ONCE", pairs)
    (q, ql), (b, bl) = blobs(2), blobs(3, 200)
    reference = sklearn_knn(k, temp).fit(b.numpy(), bl.numpy())
    ours = knn_predict(q, b, bl, k=k, temp=temp)
    probabilities = ours / ours.sum(1, keepdim=True)
    np.testing.assert_allclose(probabilities, reference.predict_proba(q.numpy()), atol=1e-9)
    assert top_k_accuracy(ours, ql, 1) == pytest.approx(reference.score(q.numpy(), ql.numpy()))


def sklearn_knn(k: int, temp: float) -> Any:
    return KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / temp)
    )


@pytest.mark.parametrize("pairs", [2**22, 300], ids=["at-once", "by-fours"])
def test_leave_one_out_equals_sklearn_without_each(
    pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "_PAIRS_AT_ONCE", pairs)
    x, labels = blobs(5, 60)
    x = torch.cat([x, x[:4]])  # twins: a sample leaves out itself alone
    labels = torch.cat([labels, labels[:4]])
    right = 0
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        reference = sklearn_knn(7, 0.07).fit(x.numpy()[others], labels.numpy()[others])
        right += reference.predict(x[i : i + 1].numpy())[0] == labels[i]
    found = top_k_accuracy(knn_predict(x, x, labels, k=7, leave_one_out=True), labels, 1)
    assert found == pytest.approx(right / len(x))
    assert found < top_k_accuracy(knn_predict(x, x, labels, k=1), labels, 1) == 1.0
    with pytest.raises(ValueError, match="needs a bank"):
        knn_predict(x[:1], x[:1], labels[:1], leave_one_out=True)
