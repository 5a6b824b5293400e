"""Which frames and which part of them make a clip. Pure functions, no pixels.

Times in seconds, frames by display number. An image is a video of one frame and no rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from sce_video.config.recipes import Crop
from sce_video.stream.crops import DRAWS, Box, Size, crop_boxes, random_box, short_side
from sce_video.stream.draws import uniforms
from sce_video.video.facts import Video

Indices = NDArray[np.int64]

GRID_FPS = 25
"""Frame rate of layered shards, whose frames on a grid need few packets."""


@dataclass(frozen=True)
class ClipSpec:
    """One clip to make of a video."""

    frames: Indices  # display numbers [T], ascending; repeated where the video is short
    box: Box
    size: int  # side of the square the box is resized to
    scale: Size | None = None  # resize the whole frame to (height, width) before the box
    difference: bool = False  # temporal difference instead of colour


ViewSampler = Callable[[Video, int, int], Sequence[ClipSpec]]
"""(video, epoch, row of the index) -> the clips to make of it."""


def frame_range(video: Video, start: Fraction | float, seconds: float) -> tuple[int, int]:
    """First frame and number of frames of the clip ``[start, start + seconds)``.

    Frames ``ceil(fps * start) .. ceil(fps * end) - 1``, cut at the video's end. Exact rational
    arithmetic: 2.56 s at 25 fps is 65 frames, since the double 2.56 lies above 64/25.
    """
    fps = Fraction(video.fps)
    begin = Fraction(start)
    first = min(math.ceil(fps * begin), video.frames - 1)
    last = min(math.ceil(fps * (begin + Fraction(seconds))) - 1, video.frames - 1)
    return first, max(last - first + 1, 1)


def subsample(first: int, count: int, frames: int) -> Indices:
    """``frames`` display numbers spread evenly over ``count`` frames from ``first``.

    ``first + floor(k (count - 1) / (frames - 1))``; frames repeat where ``count < frames``.
    """
    return first + np.arange(frames, dtype=np.int64) * (count - 1) // max(frames - 1, 1)


def uniform_starts(video: Video, seconds: float, clips: int) -> list[Fraction]:
    """Starts of ``clips`` clips spread evenly from the video's start to its end."""
    length = video.frames / Fraction(video.fps) if video.fps else Fraction(0)
    room = max(length - Fraction(seconds), Fraction(0))
    return [room * c / max(clips - 1, 1) for c in range(clips)]


@dataclass(frozen=True)
class ClipTiming:
    """How the frames of a random clip are chosen.

    ``grid`` 1 is the published rule: a start uniform in ``[0, duration - seconds]``, frames spread
    evenly over the clip. On a grid of 8 or 4 (layered shards) frame k is
    ``start + k * seconds * 25 / frames`` and starts are multiples of the grid, so that a frame
    costs a packet or two; the clip then spans ``seconds * (frames - 1) / frames``.
    """

    frames: int
    seconds: float
    grid: int = 1
    max_gap: float | None = None  # seconds between the starts of a video's clips; None = any

    def __call__(self, video: Video, u_first: float, u: float | None = None) -> Indices:
        """Display numbers ``[frames]`` of a clip.

        Args:
            video: to cut it from.
            u_first: uniform number in [0,1) of the video's first clip.
            u: that of a further clip; None = the first.
        """
        if self.grid == 1:
            room = max(video.duration - self.seconds, 0.0)
            start = self._near(u_first * room, u, room)
            return subsample(*frame_range(video, start, self.seconds), self.frames)
        step = round(self.seconds * GRID_FPS / self.frames)
        places = max(video.frames - 1 - (self.frames - 1) * step, 0) // self.grid
        start = self._near(int(u_first * (places + 1)), u, places, GRID_FPS / self.grid, whole=True)
        numbers = int(start) * self.grid + np.arange(self.frames, dtype=np.int64) * step
        return np.minimum(numbers, video.frames - 1)

    def _near(
        self, first: float, u: float | None, room: float, rate: float = 1.0, *, whole: bool = False
    ) -> float:
        """A start in ``[0, room]``, within the gap of the ``first``; in units of 1/rate seconds."""
        if u is None:
            return first
        gap = room if self.max_gap is None else self.max_gap * rate
        low, high = max(first - gap, 0.0), min(first + gap, room)
        if whole:
            low, high = math.ceil(low), math.floor(high)
            return low + int(u * (high - low + 1))
        return low + u * (high - low)


@dataclass(frozen=True)
class RandomClips:
    """Training views: a clip each, with its own start, crop and temporal difference."""

    crops: tuple[tuple[Crop, int], ...]  # a view each: rule and side of the view, pixels
    timing: ClipTiming
    difference: float  # probability of a temporal difference
    seed: int

    def __call__(self, video: Video, epoch: int, row: int) -> list[ClipSpec]:
        """The views of one video in one epoch."""
        keys = [(self.seed, epoch, row, view) for view in range(len(self.crops))]
        starts = [float(uniforms(*key, "start", 1)[0]) for key in keys]
        clips: list[ClipSpec] = []
        for key, start, (crop, size) in zip(keys, starts, self.crops, strict=True):
            u = uniforms(*key, "crop", DRAWS)
            box, scale = random_box(crop, video.height, video.width, size, u)
            difference = bool(uniforms(*key, "difference", 1)[0] < self.difference)
            frames = self.timing(video, starts[0], start if clips else None)
            clips.append(ClipSpec(frames, box, size, scale, difference))
        return clips


@dataclass(frozen=True)
class UniformClips:
    """Evaluation views: clips spread over the video times squares along its longer side.

    The short side is resized to ``short`` times ``size``, then cropped. The published protocol is
    10 x 3 at 8/7 of the training size (256 for 224).
    """

    clips: int
    crops: int  # 1 or 3
    frames: int
    seconds: float
    size: int
    short: float = 1.0

    def __call__(self, video: Video, epoch: int, row: int) -> list[ClipSpec]:
        """All views of a video, clip-major."""
        scale = short_side(video.height, video.width, round(self.size * self.short))
        starts = uniform_starts(video, self.seconds, self.clips)
        chosen = [subsample(*frame_range(video, s, self.seconds), self.frames) for s in starts]
        boxes = crop_boxes(*scale, self.size, self.crops)
        return [ClipSpec(frames, box, self.size, scale) for frames in chosen for box in boxes]
