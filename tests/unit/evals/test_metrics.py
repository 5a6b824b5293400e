"""Retrieval and kNN against the reference implementation and scikit-learn."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from sce_video.evals import retrieval
from sce_video.evals.knn import knn_accuracy, knn_predict
from sce_video.evals.retrieval import prepare, retrieve
from sce_video.stream.clips import UniformClips
from sce_video.video.facts import Video
from tests.conftest import GOLDEN

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


def blobs(seed: int, n: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (n,), generator=generator)
    centres = torch.randn(4, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    noise = torch.randn(n, 8, generator=generator, dtype=torch.float64)
    return centres[labels] + noise, labels


def test_mean_average_precision_equals_sklearn() -> None:
    (q, ql), (b, bl) = blobs(0), blobs(1, 90)
    similarity = (prepare(q) @ prepare(b).T).numpy()
    expected = [
        average_precision_score((bl == label).numpy(), row)
        for row, label in zip(similarity, ql, strict=True)
    ]
    assert retrieve(q, ql, b, bl).mean_ap == pytest.approx(float(np.mean(expected)), abs=1e-12)


def test_a_class_missing_from_the_bank_is_a_miss() -> None:
    q, b = torch.eye(2), torch.eye(2)
    result = retrieve(q, torch.tensor([0, 7]), b, torch.tensor([0, 0]), center=False)
    assert result.recall[1] == 0.5
    assert result.mean_ap == 0.5
    with pytest.raises(ValueError, match="queries and a bank"):
        retrieve(q[:0], torch.zeros(0, dtype=torch.long), b, torch.tensor([0, 0]))


@pytest.mark.parametrize("pairs", [2**22, 1000])  # 1000: five queries at a time
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


@pytest.mark.parametrize("pairs", [2**22, 1000])
@pytest.mark.parametrize(("k", "temp"), [(20, 0.07), (1, 0.07), (50, 1.0), (5, 0.01)])
def test_knn_equals_sklearn(
    k: int, temp: float, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "_PAIRS_AT_ONCE", pairs)
    (q, ql), (b, bl) = blobs(2), blobs(3, 200)
    reference = sklearn_knn(k, temp).fit(b.numpy(), bl.numpy())
    ours = knn_predict(q, b, bl, 4, k=k, temp=temp)
    probabilities = ours / ours.sum(1, keepdim=True)
    np.testing.assert_allclose(probabilities, reference.predict_proba(q.numpy()), atol=1e-9)
    assert knn_accuracy(q, ql, b, bl, k=k, temp=temp) == pytest.approx(
        reference.score(q.numpy(), ql.numpy())
    )


def sklearn_knn(k: int, temp: float) -> Any:
    return KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / temp)
    )


@pytest.mark.parametrize("pairs", [2**22, 300])
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
    found = knn_accuracy(x, labels, x, labels, k=7, leave_one_out=True)
    assert found == pytest.approx(right / len(x))
    assert found < knn_accuracy(x, labels, x, labels, k=1) == 1.0
    with pytest.raises(ValueError, match="needs a bank"):
        knn_predict(x[:1], x[:1], labels[:1], 4, leave_one_out=True)


def test_evaluation_views_are_clips_times_crops() -> None:
    views = UniformClips(clips=10, crops=3, frames=8, seconds=2.56, size=256)
    specs = views(Video(300, 30.0, 480, 854), 0, 0)
    assert len(specs) == 30
    assert specs[0].scale == (256, 455)
    assert [s.box[1] for s in specs[:3]] == [0, 100, 199]
    assert specs[0].frames[0] == 0
    assert specs[-1].frames[-1] == 299
    assert {s.size for s in specs} == {256}
