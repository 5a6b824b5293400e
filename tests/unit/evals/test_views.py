"""Views of a video, and how what a network makes of them becomes one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from sce_video.evals import accuracy, views
from sce_video.stream.clips import UniformClips
from sce_video.video.facts import Video
from tests.conftest import GOLDEN


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
