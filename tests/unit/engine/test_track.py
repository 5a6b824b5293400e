"""Rows of metrics as they are read back."""

from __future__ import annotations

from sce_video.engine.track import in_order


def test_resumed_run_replaces_what_it_does_again() -> None:
    written = [{"step": s, "loss": 1.0} for s in (1, 2, 3, 4)]
    written += [{"step": s, "loss": 2.0} for s in (3, 4)]
    assert [(row["step"], row["loss"]) for row in in_order(written)] == [
        (1, 1),
        (2, 1),
        (3, 2),
        (4, 2),
    ]


def test_rows_of_one_step_become_one() -> None:
    written = [{"step": 1, "loss": 1.0}, {"step": 1, "eval/knn": 0.5}, {"step": 2, "loss": 3.0}]
    assert in_order(written) == [
        {"step": 1, "loss": 1.0, "eval/knn": 0.5},
        {"step": 2, "loss": 3.0},
    ]
