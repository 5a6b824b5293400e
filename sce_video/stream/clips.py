"""Which frames and which part of them make a clip. Pure functions, no pixels.

Times in seconds, boxes ``(top, left, height, width)`` in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from sce_video.stream.draws import uniforms

Box = tuple[int, int, int, int]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Video:
    """What is known of a video before it is decoded: a row of the index."""

    frames: int
    fps: float
    height: int
    width: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.fps


@dataclass(frozen=True)
class ClipSpec:
    """One clip to make of a video."""

    frames: Indices  # display numbers [T], ascending; repeated where the video is short
    box: Box
    size: int  # side of the square the box is resized to
    scale: tuple[int, int] | None = None  # resize the whole frame to (height, width) before the box
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


def random_start(video: Video, seconds: float, u: float) -> float:
    """A start uniform in ``[0, duration - seconds]`` from ``u`` in [0,1); 0 if shorter."""
    return u * max(video.duration - seconds, 0.0)


def uniform_starts(video: Video, seconds: float, clips: int) -> list[Fraction]:
    """Starts of ``clips`` clips spread evenly from the video's start to its end."""
    if clips == 1:
        return [Fraction(0)]
    room = max(video.frames / Fraction(video.fps) - Fraction(seconds), Fraction(0))
    return [room * c / (clips - 1) for c in range(clips)]


def random_resized_crop(
    video: Video, area: tuple[float, float], aspect: tuple[float, float], u: NDArray[np.float64]
) -> Box:
    """A box with area a uniform share of the frame and aspect log-uniform.

    Ten tries from ``u`` (40 numbers in [0,1)), then the largest centred box within ``aspect``.
    """
    height, width = video.height, video.width
    low, high = math.log(aspect[0]), math.log(aspect[1])
    for a, r, y, x in u.reshape(10, 4):
        pixels = height * width * (area[0] + a * (area[1] - area[0]))
        ratio = math.exp(low + r * (high - low))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
    w, h = width, height
    if width / height < aspect[0]:
        h = round(width / aspect[0])
    elif width / height > aspect[1]:
        w = round(height * aspect[1])
    return (height - h) // 2, (width - w) // 2, h, w


def short_side(video: Video, size: int) -> tuple[int, int]:
    """Height and width of the whole frame once its short side is ``size``."""
    if video.height <= video.width:
        return size, max(size, int(size * video.width / video.height))
    return max(size, int(size * video.height / video.width)), size


def crop_boxes(height: int, width: int, size: int, crops: int) -> list[Box]:
    """``crops`` (1 or 3) squares along the longer side: the centre, or start, centre and end."""
    y, x = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    if crops == 1:
        return [(y, x, size, size)]
    if height > width:
        return [(top, x, size, size) for top in (0, y, height - size)]
    return [(y, left, size, size) for left in (0, x, width - size)]


@dataclass(frozen=True)
class RandomClips:
    """Pretraining views: ``clips`` clips a video, each with its own start, crop and difference."""

    clips: int
    frames: int
    seconds: float
    size: int
    area: tuple[float, float]
    aspect: tuple[float, float]
    difference: float  # probability
    seed: int

    def __call__(self, video: Video, epoch: int, row: int) -> list[ClipSpec]:
        """The views of one video in one epoch."""
        return [self._view(video, epoch, row, view) for view in range(self.clips)]

    def _view(self, video: Video, epoch: int, row: int, view: int) -> ClipSpec:
        key = (self.seed, epoch, row, view)
        start = random_start(video, self.seconds, float(uniforms(*key, "start", 1)[0]))
        return ClipSpec(
            frames=subsample(*frame_range(video, start, self.seconds), self.frames),
            box=random_resized_crop(video, self.area, self.aspect, uniforms(*key, "crop", 40)),
            size=self.size,
            difference=bool(uniforms(*key, "difference", 1)[0] < self.difference),
        )
