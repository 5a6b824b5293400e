"""Clip sampling against the reference implementation's numbers, and its borders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sce_video.config.recipes import RandomResizedCrop
from sce_video.stream.clips import (
    ClipTiming,
    RandomClips,
    UniformClips,
    frame_range,
    subsample,
    uniform_starts,
)
from sce_video.video.facts import Video
from tests.unit.stream.golden import named


@pytest.mark.parametrize("case", named("uniform_subsample") + named("pytorchvideo_uniform"))
def test_subsample_golden(case: dict[str, Any]) -> None:
    p = case["params"]
    indices = subsample(p.get("first_index", 0), p["num_frames"], p["num_samples"])
    assert indices.tolist() == case["expected_indices"]


@pytest.mark.parametrize("case", named("constant_clips"))
def test_uniform_clips_golden(case: dict[str, Any]) -> None:
    p = case["params"]
    video = Video(p["video_frames"], p["fps"], 256, 340)
    starts = uniform_starts(video, p["clip_duration"], p["clips_per_video"])
    expected = [e for e in case["expected"] if e["aug_index"] == 0]
    assert len(starts) == len(expected)
    for start, clip in zip(starts, expected, strict=True):
        first, count = frame_range(video, start, p["clip_duration"])
        assert float(start) == pytest.approx(clip["start"], abs=1e-9)
        assert (first, first + count) == (clip["first_frame"], clip["one_past_last_frame"])


def test_short_videos_repeat_frames_and_never_leave_the_video() -> None:
    one = Video(frames=1, fps=25, height=10, width=10)
    assert subsample(*frame_range(one, 0.0, 2.56), 8).tolist() == [0] * 8
    short = Video(frames=5, fps=25, height=10, width=10)
    assert subsample(*frame_range(short, 0.0, 2.56), 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 4]
    for u in np.linspace(0, 0.999999, 50):
        video = Video(frames=301, fps=29.97, height=10, width=10)
        start = u * (video.duration - 2.56)
        first, count = frame_range(video, start, 2.56)
        assert first >= 0
        assert first + count <= 301


def test_random_clips_are_pure_and_views_are_independent() -> None:
    sampler = RandomClips(
        ((RandomResizedCrop((0.2, 0.766)), 32),) * 2, ClipTiming(8, 1.0), 0.2, seed=0
    )
    video = Video(300, 30.0, 120, 160)
    first = [sampler(video, 0, row) for row in range(500)]
    again = [sampler(video, 0, row) for row in range(500)]
    for a, b in zip(first, again, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x.frames.tolist() == y.frames.tolist()
            assert (x.box, x.difference) == (y.box, y.difference)
    starts = np.array([[view.frames[0] for view in views] for views in first])
    assert abs(np.corrcoef(starts.T)[0, 1]) < 0.15
    share = np.mean([view.difference for views in first for view in views])
    assert abs(share - 0.2) < 0.05
    for views in first:
        for view in views:
            top, left, height, width = view.box
            assert 0 <= top <= 120 - height
            assert 0 <= left <= 160 - width
            assert 0.18 < height * width / (120 * 160) < 0.79
    other_epoch = sampler(video, 1, 0)
    assert other_epoch[0].box != first[0][0].box


def test_clips_on_the_grid() -> None:
    """Frame k = start + k * seconds * 25 / frames; all starts on the grid occur, none else."""
    for grid, frames, step in ((8, 8, 8), (4, 16, 4), (4, 8, 8)):
        timing = ClipTiming(frames, 2.56, grid)
        video = Video(250, 25.0, 256, 340)
        starts = set()
        for u in np.linspace(0, 1, 500, endpoint=False):
            clip = timing(video, float(u))
            assert np.diff(clip).tolist() == [step] * (frames - 1)
            starts.add(int(clip[0]))
        last = (249 - (frames - 1) * step) // grid * grid
        assert starts == set(range(0, last + 1, grid))
    short = Video(20, 25.0, 256, 340)
    assert ClipTiming(8, 2.56, 8)(short, 0.9).tolist() == [0, 8, 16, 19, 19, 19, 19, 19]


@pytest.mark.parametrize("grid", [1, 4])
@pytest.mark.parametrize("gap", [0.0, 0.5, 3.0])
def test_the_gap_between_clips_is_limited(grid: int, gap: float) -> None:
    video = Video(250, 25.0, 256, 340)
    crops = ((RandomResizedCrop((0.2, 0.766)), 32),) * 3
    sampler = RandomClips(crops, ClipTiming(16, 2.56, grid, gap), 0.0, seed=0)
    starts = np.array([[c.frames[0] for c in sampler(video, 0, row)] for row in range(300)])
    apart = np.abs(starts - starts[:, :1])
    assert apart.max() <= np.ceil(gap * 25)
    assert apart.max() >= np.floor(0.9 * gap * 25) // grid * grid
    assert len(set(starts[:, 0].tolist())) > 30  # the first is anywhere
    assert starts.max() + 60 < 250


def test_an_image_is_one_frame_whenever_the_clip_starts() -> None:
    image = Video(1, 0.0, 375, 500)
    assert image.duration == 0
    assert ClipTiming(1, 1.0)(image, 0.7).tolist() == [0]
    [view] = UniformClips(1, 1, 1, 1.0, 224)(image, 0, 0)
    assert view.frames.tolist() == [0]
