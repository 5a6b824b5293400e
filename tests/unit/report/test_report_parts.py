"""The pure parts of the page: choice of queries, thinned curves, tables, frames of a thumbnail."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sce_video.report.curves import POINTS, curves, thin
from sce_video.report.gallery import choose
from sce_video.report.tables import headline, knn_table, retrieval_table
from sce_video.report.thumbnails import small_size, thumbnail_frames
from sce_video.stream.clips import Video

QUERIES = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=80)


@given(queries=QUERIES, limit=st.integers(0, 80))
def test_choice_is_a_beginning_of_one_order(queries: list[tuple[int, bool]], limit: int) -> None:
    classes, right = [c for c, _ in queries], [r for _, r in queries]
    whole = choose(classes, right, len(queries))
    assert sorted(whole) == list(range(len(queries)))
    assert choose(classes, right, limit) == whole[:limit]


def test_choice_is_even_over_classes_and_verdicts() -> None:
    classes = [number % 20 for number in range(2000)]
    right = [number // 20 % 10 == 0 for number in range(2000)]  # one in ten
    chosen = choose(classes, right, 60)
    assert set(Counter(classes[i] for i in chosen).values()) == {3}
    assert sum(right[i] for i in chosen) == 30


def test_choice_spreads_over_many_classes() -> None:
    chosen = choose(list(range(400)), [False] * 400, 8)
    assert max(np.diff(sorted(chosen))) <= 100


def test_short_series_is_kept() -> None:
    assert thin([(1, 2.0), (2, 4.0)]) == [(1, 2.0, 2.0, 2.0), (2, 4.0, 4.0, 4.0)]


@pytest.mark.parametrize("length", [POINTS + 1, 1000, 99_999])
def test_long_series_keeps_mean_and_extremes(length: int) -> None:
    rng = np.random.default_rng(length)
    values = rng.normal(size=length)
    points = thin(list(enumerate(values.tolist(), 1)))
    assert len(points) == POINTS
    assert [p[0] for p in points] == sorted({p[0] for p in points})
    assert min(p[2] for p in points if p[2] is not None) == pytest.approx(values.min(), rel=1e-5)
    assert max(p[3] for p in points if p[3] is not None) == pytest.approx(values.max(), rel=1e-5)


def test_values_that_are_not_finite_leave_a_gap() -> None:
    points = thin([(1, 1.0), (2, math.nan), (3, math.inf), (4, 2.0)])
    assert [p[1] for p in points] == [1.0, None, None, 2.0]


def test_curves_are_sorted_into_loss_changing_and_constant() -> None:
    rows = [
        {"step": s, "train/loss": 1.0 / s, "new": s * 2.0, "train/lr": 0.1 * s, "same": 3.0}
        | {"train/epoch": s / 4}
        for s in (1, 2)
    ]
    found = curves(rows)
    assert found["loss"]["title"] == "Loss"
    assert [series["key"] for series in found["others"]] == ["train/lr", "new"]
    assert found["constant"] == [["same", 3.0]]
    assert found["steps_per_epoch"] == 4


def test_headline_marks_the_best_and_draws_r_at_1() -> None:
    found = headline(
        {
            "title": "t",
            "columns": ["kNN", "R@1", "videos"],
            "rows": [
                {"name": "raw", "kNN": 0.2, "R@1": 0.125, "videos": 1200},
                {"name": "trained", "kNN": 0.1, "R@1": 0.5},
            ],
        }
    )
    raw, trained = found["rows"]
    assert [cell["text"] for cell in raw["cells"]] == ["20.0 %", "12.5 %", "1,200"]
    assert [cell["text"] for cell in trained["cells"]] == ["10.0 %", "50.0 %", "-"]
    assert [cell["best"] for cell in raw["cells"]] == [True, False, False]
    assert found["bars"]["column"] == "R@1"
    assert [row["best"] for row in found["bars"]["rows"]] == [False, True]


SUMMARY = {
    "R@1": 0.5,
    "mAP": 0.25,
    "top1": 0.75,
    "samples": 1500,
    "bank_samples": 9,
    "missing": 2,
    "missing_samples": ["a: x", "b: y"],
    "protocol": {
        "queries": "split1:test",
        "not_in_shards": {"missing": 13203},
        "k": 20,
        "temp": 0.07,
        "votes": "exp(cosine / temp)",
    },
}


def test_protocol_is_spelled_out() -> None:
    found = retrieval_table(SUMMARY)
    words = dict(found["protocol"])
    assert found["figures"] == [["R@1", "50.0 %"], ["mAP", "25.0 %"]]
    assert words["Queries"] == "1,500 videos of split1:test"
    assert words["Not in the shards"].startswith("13,203 missing")
    assert found["missing"].startswith("2 videos could not be read")
    assert found["missing_samples"] == ["a: x", "b: y"]


def test_knn_says_how_votes_are_weighted() -> None:
    words = dict(knn_table(SUMMARY)["protocol"])
    assert "20 nearest" in words["kNN"]
    assert "exp(cosine / temp), temp 0.07" in words["kNN"]


@given(frames=st.integers(1, 5000), fps=st.sampled_from([1.0, 12.5, 24.0, 29.97, 60.0]))
def test_thumbnail_frames_lie_in_the_video(frames: int, fps: float) -> None:
    numbers, rate = thumbnail_frames(Video(frames, fps, 240, 320))
    assert numbers[0] >= 0
    assert numbers[-1] < frames
    assert (np.diff(numbers) > 0).all()
    assert len(numbers) <= 24
    assert len(numbers) / rate <= 3.5


def test_thumbnail_of_an_image() -> None:
    numbers, rate = thumbnail_frames(Video(1, 0.0, 30, 40))
    assert numbers.tolist() == [0]
    assert rate == Fraction(1)


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((240, 320), (112, 148)),
        ((1080, 607), (198, 112)),
        ((48, 64), (48, 64)),
        ((31, 41), (30, 40)),
    ],
)
def test_thumbnail_is_small_even_and_never_enlarged(
    size: tuple[int, int], small: tuple[int, int]
) -> None:
    assert small_size(*size) == small
