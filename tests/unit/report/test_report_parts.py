"""The pure parts of the page: choice of queries, thinned curves, tables, frames of a thumbnail."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sce_video.report.compare import compare
from sce_video.report.curves import POINTS, curves, thin
from sce_video.report.gallery import choose
from sce_video.report.inputs import RunFiles
from sce_video.report.spread import means
from sce_video.report.tables import headline, result_table
from sce_video.report.thumbnails import LARGE, SMALL, Size, small_size, thumbnail_frames
from sce_video.video.facts import Video

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
    rows.append({"step": 2, "eval/knn": 0.5})
    rows.append({"step": 3, "eval/knn": 0.75})
    found = curves([rows])
    assert found is not None
    assert found["loss"]["title"] == "Loss"
    titles = [series["title"] for series in found["others"]]
    assert titles == ["eval/knn", "Learning rate", "new"]
    assert found["constant"] == [["same", 3.0]]
    assert found["steps_per_epoch"] == [4]


def test_runs_are_drawn_together() -> None:
    def row(step: int, **values: float) -> dict[str, float]:
        return {"step": step, "train/loss": 1.0 / step, "train/lr": 0.5, **values}

    found = curves([[row(1), row(2)], [], [row(1, other=1.0), row(2, other=2.0)]])
    assert found is not None
    assert [line["run"] for line in found["loss"]["lines"]] == [0, 2]
    assert [(s["title"], len(s["lines"])) for s in found["others"]] == [("other", 1)]
    assert found["constant"] == [["Learning rate", 0.5]]
    assert curves([[], []]) is None


def test_headline_marks_the_best() -> None:
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
    found = result_table(SUMMARY, "retrieval", {})
    words = dict(found["protocol"])
    assert found["figures"] == [["R@1", "50.0 %"], ["mAP", "25.0 %"]]
    assert words["Queries"] == "1,500 videos of split1:test"
    assert words["Not in the shards"].startswith("13,203 missing")
    assert found["missing"].startswith("2 videos could not be read")
    assert found["missing_samples"] == ["a: x", "b: y"]


def test_listed_videos_that_are_not_in_the_shards_are_counted() -> None:
    def said(unread: int, **rejected: int) -> Any:
        summary = {"missing": unread, "protocol": {"not_in_shards": rejected}}
        return result_table(summary, "test", {})["missing"]

    assert said(0) == said(0, unlisted=4, replaced=1) == "Every video in the shards was read."
    assert said(0, missing=13203, unlisted=2, corrupt=1).endswith(
        "read; 13,204 of the lists are not in the shards."
    )
    assert said(1, missing=1).endswith("figures; 1 of the lists is not in the shards.")


def test_ranks_beyond_the_bank_are_not_shown() -> None:
    ranks = {f"R@{k}": 0.5 for k in (1, 5, 10, 20)}
    found = result_table({**ranks, "bank_samples": 10}, "retrieval", {})["figures"]
    assert [name for name, _ in found] == ["R@1", "R@5", "R@10"]


def test_heading_names_set_split_and_numbers() -> None:
    protocol = {"dataset": "ucf101", "queries": "split1:test", "bank": "split1:train"}
    summary = {"R@1": 0.0, "samples": 50, "bank_samples": 1117, "protocol": protocol}
    title = "Retrieval: ucf101, split1:test (50) in split1:train (1,117)"
    assert result_table(summary, "retrieval", {})["title"] == title
    runs = [side(0.5, **protocol), side(0.25, **protocol)]
    assert compare(["a", "b"], runs)["notes"] == [
        "Retrieval: ucf101, split1:test (4) in split1:train"
    ]
    test = {"samples": 3, "protocol": {"dataset": "hmdb51", "split": "split2:test"}}
    assert result_table(test, "test", {})["title"] == "Test: hmdb51, split2:test (3)"


def test_knn_says_how_votes_are_weighted() -> None:
    words = dict(result_table(SUMMARY, "knn", {})["protocol"])
    assert "20 nearest" in words["kNN"]
    assert "exp(cosine / temp), temp 0.07" in words["kNN"]


def test_classes_keep_numbers_to_sort_by() -> None:
    classes = {"a": {"samples": 10, "top1": 0.5}, "b": {"samples": 1, "top1": math.nan, "x": 1}}
    found = result_table(
        {"top1": 0.5, "samples": 11, "protocol": {"split": "split1:test", "scores": "mean"}},
        "test",
        classes,
    )
    assert found["protocol"][1:] == [["Queries", "11 videos of split1:test"], ["scores", "mean"]]
    assert found["figures"] == [["Top-1", "50.0 %"]]
    assert found["classes"] == {
        "columns": ["samples", "top1", "x"],
        "shares": [False, True, False],
        "rows": [["a", 10, 0.5, None], ["b", 1, None, 1]],
    }


def side(r1: float | None, text: str | None = "optim: {lr: 1}", **protocol: Any) -> RunFiles:
    """A run with a retrieval result, if any."""
    summary = {"R@1": r1, "samples": 4, "protocol": {"encoder_sha256": str(r1), **protocol}}
    results: dict[str, Any] = {} if r1 is None else {"retrieval": summary}
    empty: dict[str, Any] = {"metrics": [], "status": {}, "plan": [], "last": None, "views": None}
    empty |= {"neighbours": None, "per_class": {}, "confusion": None, "comparison": None}
    return RunFiles(Path(), datetime.now(UTC), config=text, results=results, **empty)


def test_best_of_several_runs_and_what_differs() -> None:
    runs = [side(0.5, size=112), side(None, "optim: {lr: 2}\nrun: {dir: x}"), side(0.25, size=112)]
    found = compare(["a", "b", "c"], runs)
    row = next(row for row in found["rows"] if row["name"] == "R@1")
    assert [cell["text"] for cell in row["cells"]] == ["50.0 %", "-", "25.0 %"]
    assert [cell["best"] for cell in row["cells"]] == [True, False, False]
    [difference] = found["differences"]
    assert difference["name"] == "optim.lr"
    assert [cell["text"] for cell in difference["cells"]] == ["1", "2", "1"]


def test_weights_of_others_have_no_configuration_to_differ_in() -> None:
    runs = [side(0.5), side(0.25, None), side(0.75, "optim: {lr: 2}")]
    found = compare(["a", "foreign", "b"], runs)
    assert found["configured"] == ["a", "b"]
    [difference] = found["differences"]
    assert [cell["text"] for cell in difference["cells"]] == ["1", "2"]
    states = [cell["text"].partition(" ·")[0] for cell in found["rows"][0]["cells"]]
    assert states[:2] == ["how it ended is unknown", "weights of others, not trained here"]
    assert compare(["a", "foreign"], runs[:2])["differences"] == []


def test_figures_of_other_protocols_have_no_best() -> None:
    found = compare(["a", "b"], [side(0.5, size=112), side(0.25, size=128)])
    row = next(row for row in found["rows"] if row["name"] == "R@1")
    assert not any(cell["best"] for cell in row["cells"])
    assert "size: 112 / 128" in found["notes"][0]


@given(frames=st.integers(1, 5000), fps=st.sampled_from([1.0, 12.5, 24.0, 29.97, 60.0]))
@pytest.mark.parametrize("size", [LARGE, SMALL])
def test_thumbnail_frames_lie_in_the_video(frames: int, fps: float, size: Size) -> None:
    numbers, rate = thumbnail_frames(Video(frames, fps, 240, 320), size.frames)
    assert numbers[0] >= 0
    assert numbers[-1] < frames
    assert (np.diff(numbers) > 0).all()
    assert len(numbers) <= size.frames
    assert len(numbers) / rate <= 3.5


def test_thumbnail_of_an_image() -> None:
    numbers, rate = thumbnail_frames(Video(1, 0.0, 30, 40), LARGE.frames)
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
    assert small_size(*size, LARGE.side) == small


def on_split(split: str, top1: float, *, lr: int = 1) -> RunFiles:
    """A run with a test on a split of its own."""
    protocol = {"dataset": "ucf101", "split": f"{split}:test", "classifier_sha256": split}
    figures = {"top1": top1, "top5": 1.0, "mean_class_accuracy": top1}
    counts: dict[str, Any] = {"samples": 50, "missing": 0, "missing_samples": []}
    settings = {"task": "linear", "data": {"split": f"{split}:train"}, "run": {"dir": split}}
    found = side(None, json.dumps({**settings, "optim": {"lr": lr}}))
    found.results["test"] = {**figures, **counts, "protocol": protocol}
    return found


def test_mean_over_splits_is_of_runs_that_differ_in_nothing_else() -> None:
    others = [on_split("split3", 0.1, lr=9), side(0.5)]
    runs = [on_split("split1", 0.5), others[0], on_split("split2", 0.7), others[1]]
    [found] = means(["a", "x", "b", "y"], runs)
    assert found["title"] == "Mean of 2 tests: ucf101, split1:test (50), split2:test (50)"
    assert found["figures"] == [
        ["Top-1", "60.0 ± 14.1 %"],
        ["Top-5", "100.0 ± 0.0 %"],
        ["Mean class accuracy", "60.0 ± 14.1 %"],
    ]
    assert [text.rpartition(": ")[2] for _, text in found["protocol"][1:]] == ["a", "b"]
    assert means(["a", "b"], [on_split("split1", 0.5), on_split("split1", 0.7)]) == []
    assert means(["a"], runs[:1]) == []
