"""The mean over splits."""

from __future__ import annotations

import json
from typing import Any

from sce_video.report.inputs import RunFiles
from sce_video.report.spread import means
from tests.report_run import side


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
