"""Views of a video, and how what a network makes of them becomes one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from sce_video.errors import UsageError
from sce_video.evals import accuracy, views
from sce_video.stream.clips import UniformClips
from sce_video.video.facts import Video
from tests.conftest import GOLDEN
from tests.unit.evals.small_set import SPEC


def test_evaluation_views_are_clips_times_crops() -> None:
    sampler = UniformClips(clips=10, crops=3, frames=8, seconds=2.56, size=256)
    specs = sampler(Video(300, 30.0, 480, 854), 0, 0)
    assert len(specs) == 30
    assert specs[0].scale == (256, 455)
    assert [s.box[1] for s in specs[:3]] == [0, 100, 199]
    assert specs[0].frames[0] == 0
    assert specs[-1].frames[-1] == 299
    assert {s.size for s in specs} == {256}


FILE = json.loads((GOLDEN / "view_ensemble.json").read_text())


POOLS = {
    "same_avg": views.mean_of_views,
    "same_max": lambda values: values.amax(1),  # not of our protocol; any function of views will do
    "views_softmax_then_mean": views.mean_probability,
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", FILE["cases"], ids=lambda c: c["name"])
def test_ensemble_of_views_golden(case: dict[str, Any], dtype: str) -> None:
    given, number = case["inputs"], case["params"]["num_aug"]
    values = torch.tensor(given.get("values", given.get("logits")), dtype=getattr(torch, dtype))
    found = POOLS[case["name"]](values.view(-1, number, values.shape[1]))
    torch.testing.assert_close(
        found,
        torch.tensor(case["expected"]["values"], dtype=found.dtype),
        **FILE["tolerance"][dtype],
    )
    if "argmax" in case["expected"]:
        assert accuracy.best(found, 1)[:, 0].tolist() == case["expected"]["argmax"]


@pytest.mark.parametrize(
    ("change", "clips", "size", "told"),
    [
        ({}, 1001, None, "clips 1001: 1 to 1,000"),
        ({}, 0, None, "clips 0: 1 to 1,000"),
        ({}, 1, 10**9, r"size 1e\+09: 1 to 8,192"),
        ({"size": -3}, 1, None, "size -3: 1 to 8,192"),
        ({"frames": 10**9}, 1, None, r"frames 1e\+09: 1 to 4,096"),
        ({"seconds": float("inf")}, 1, None, "seconds inf: 0 to 10,000"),
        ({"seconds": float("nan")}, 1, None, "seconds nan: 0 to 10,000"),
        ({"seconds": -1.0}, 1, None, "seconds -1: 0 to 10,000"),
    ],
)
def test_views_are_bounded(
    change: dict[str, float], clips: int, size: int | None, told: str
) -> None:
    with pytest.raises(UsageError, match=f"views of {told} are taken"):
        views.eval_views(SPEC.model_copy(update=change), clips, 3, size)
