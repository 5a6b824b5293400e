"""Frames and size of a thumbnail."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sce_video.report.thumbnails import LARGE, SMALL, Size, small_size, thumbnail_frames
from sce_video.video.facts import Video


@given(frames=st.integers(1, 5000), fps=st.sampled_from([1.0, 12.5, 24.0, 29.97, 60.0]))
@pytest.mark.parametrize("size", [LARGE, SMALL], ids=["large", "small"])
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
    ids=["240p", "portrait", "small", "odd"],
)
def test_thumbnail_is_small_even_and_never_enlarged(
    size: tuple[int, int], small: tuple[int, int]
) -> None:
    assert small_size(*size, LARGE.side) == small
