"""Crops against the reference implementation's numbers, and their borders."""

from __future__ import annotations

from typing import Any

import pytest

from sce_video.config.recipes import RandomCrop, RandomResizedCrop
from sce_video.stream.crops import DRAWS, crop_boxes, random_box
from sce_video.stream.draws import uniforms
from tests.unit.stream.golden import named


@pytest.mark.parametrize("case", named("uniform_crop"))
def test_crop_boxes_golden(case: dict[str, Any]) -> None:
    p = case["params"]
    box = crop_boxes(p["height"], p["width"], p["size"], 3)[p["spatial_idx"]]
    assert list(box[:2]) == case["expected_top_left_yx"]


def test_heads_train_on_random_crops_of_random_scale() -> None:
    sides, corners = set(), set()
    for row in range(400):
        u = uniforms(0, 0, row, 0, "crop", DRAWS)
        (top, left, height, width), scale = random_box(RandomCrop(), 256, 340, 224, u)
        assert scale is not None
        assert (height, width) == (224, 224)
        assert 0 <= top <= scale[0] - 224
        assert 0 <= left <= scale[1] - 224
        sides.add(min(scale))
        corners.add((top, left))
    assert sides == set(range(256, 321))
    assert len(corners) > 300


def test_crop_falls_back_to_the_centre_of_extreme_frames() -> None:
    u = uniforms(0, 0, 0, 0, "crop", DRAWS)
    box, scale = random_box(RandomResizedCrop((0.9, 1.0)), 10, 1000, 32, u)
    assert (box, scale) == ((0, 493, 10, 13), None)
