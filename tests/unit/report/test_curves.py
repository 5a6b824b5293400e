"""Series of a run as lines to draw."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sce_video.report.curves import POINTS, curves, thin


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


def test_values_beyond_any_scale_leave_a_gap() -> None:
    values = [(1, 1.7e308), (2, -1.7e308), (3, 9e299), (4, 2**63)]
    assert [point[1] for point in thin(values)] == [None, None, 9e299, 9.22337e18]
    assert thin([(i, 9e299) for i in range(4)], 1) == [(1, 9e299, 9e299, 9e299)]
