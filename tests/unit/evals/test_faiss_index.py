"""Nearest vectors: exact against NumPy, approximate against exact, files."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from sce_video.errors import UsageError, VerificationError
from sce_video.evals.faiss_index import Nearest, build, load_faiss, read_index, recall, write_index


def mixture(n: int, width: int, clusters: int, seed: int) -> NDArray[np.float32]:
    """Vectors around random centres, noise as long as the centres; the centres do not change."""
    centres = np.random.default_rng(0).standard_normal((clusters, width), dtype=np.float32)
    rng = np.random.default_rng(seed + 1)
    out = np.empty((n, width), np.float32)
    for start in range(0, n, 50_000):
        part = out[start : start + 50_000]
        rng.standard_normal(out=part, dtype=np.float32)
        part += centres[rng.integers(0, clusters, len(part))]
    return out


def test_flat_is_exact() -> None:
    vectors, queries = mixture(500, 24, 20, 0), mixture(7, 24, 20, 1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest, order = build(vectors)
    assert order.tolist() == list(range(500))
    assert nearest.kind == "flat"
    for query in queries:
        rows, cosines = nearest.search(query, 12)
        similarity = unit @ query / np.linalg.norm(query)
        expected = np.argsort(-similarity)[:12]
        assert rows == expected.tolist()
        np.testing.assert_allclose(cosines, similarity[expected], atol=1e-5)
    assert len(nearest.search(queries[0], 501)[0]) == 500


def test_an_approximate_index_is_set_to_its_recall(tmp_path: Path) -> None:
    given, queries = mixture(4000, 16, 400, 0), mixture(100, 16, 400, 1)
    found, order = build(vectors := given.copy(), "ivf")
    assert sorted(order.tolist()) == list(range(4000))
    unit = given / np.linalg.norm(given, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, unit[order], atol=1e-6)
    assert found.settings["recall@10"] >= 0.97
    write_index(tmp_path / "index.faiss", found.index)
    again = Nearest(read_index(tmp_path / "index.faiss", "ivf"), "ivf", found.settings)
    assert again.index.nprobe == found.settings["nprobe"]  # travels with the file
    exact = np.argsort(-(queries @ unit.T), axis=1)[:, :10]
    got = np.array([order[again.search(query, 10)[0]] for query in queries])
    assert recall(got, exact) >= 0.9
    assert again.search(given[17], 1)[1][0] == pytest.approx(1, abs=1e-5)
    again.index.nprobe = 1  # the setting matters: with the least of it much is missed
    worse = [order[(again.search(query, 10)[0] * 10)[:10]] for query in queries]
    assert recall(np.array(worse), exact) < recall(got, exact)


def test_recall_counts_true_neighbours_that_were_found() -> None:
    assert recall(np.array([[7, 1, 9], [9, -1, 8]]), np.array([[9, 2, 7], [8, 3, 4]])) == 0.5


def test_what_cannot_be_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="of 20 samples take flat"):
        build(mixture(20, 8, 2, 0), "ivf")
    file = tmp_path / "index.faiss"
    write_index(file, build(mixture(20, 8, 2, 0))[0].index)
    for bad, reason in ((b"", "it is empty"), (b"nonsense" * 9, "neither a flat nor an ivf one")):
        file.write_bytes(bad)
        with pytest.raises(
            VerificationError, match=rf"index\.faiss: no index of ours: {reason}; b"
        ):
            read_index(file, "flat")
    write_index(file, build(mixture(20, 8, 2, 0))[0].index)
    with pytest.raises(VerificationError, match="of kind flat, not ivf; build again"):
        read_index(file, "ivf")
    nearest = Nearest(read_index(file, "flat"), "flat", {})
    assert len(nearest.search(np.ones(8, np.float32), 10**12)[0]) == 20
    with pytest.raises(VerificationError, match="is of 8 numbers a vector, the encoder gives 9"):
        nearest.search(np.ones(9, np.float32), 1)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UsageError, match=r"pip install 'sce-video\[faiss\]'"):
        load_faiss()


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    nearest, _ = build(mixture(20, 8, 2, 0))
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        patch.object(Path, "open", lambda *_: full),
        pytest.raises(OSError, match="No space left") as error,
    ):
        write_index(tmp_path / "index.faiss", nearest.index)
    assert error.value.filename == str(tmp_path / "index.faiss")
    assert not list(tmp_path.iterdir())


@pytest.mark.soak
def test_of_a_million_vectors_the_nearest_are_found(
    record_property: Callable[[str, object], None],
) -> None:
    """1 M x 512, a mixture of 10,000 clusters: what the default index finds, and how fast."""
    vectors, queries = mixture(1_000_000, 512, 10_000, 0), mixture(200, 512, 10_000, 1)
    faiss = load_faiss()
    faiss.omp_set_num_threads(2)
    began = time.perf_counter()
    nearest, _ = build(vectors)
    record_property("build_seconds", round(time.perf_counter() - began))
    assert nearest.kind == "ivf"
    faiss.normalize_L2(queries)
    exact = faiss.knn(queries, vectors, 10, metric=faiss.METRIC_INNER_PRODUCT)[1]
    times, found = [], []
    for query in queries:
        began = time.perf_counter()
        found.append(nearest.search(query, 10)[0])
        times.append(time.perf_counter() - began)
    reached = recall(np.array(found), exact)
    record_property("settings", nearest.settings)
    record_property("recall@10", round(reached, 4))
    record_property("median_ms", round(1000 * float(np.median(times)), 2))
    record_property("worst_ms", round(1000 * max(times), 2))
    record_property("gib", round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2))
    assert reached >= 0.95
