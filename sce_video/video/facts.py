"""What a video or image is: its frames, rate, size and duration, or why it is rejected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from statistics import median

from sce_video.video.container import MAX_PIXELS
from sce_video.video.errors import DecodeError
from sce_video.video.packets import PacketIndex


@dataclass(frozen=True)
class Limits:
    """What one file may cost. All but the CPU time are properties of the file alone."""

    bytes: int = 1 << 30
    frames: int = 500_000
    pixels: int = MAX_PIXELS  # per frame
    cpu_seconds: int = 1_200
    min_frames: int = 2


DEFAULT_LIMITS = Limits()
"""What a file may cost if nothing else is said."""


@dataclass(frozen=True)
class Video:
    """What a clip is drawn by. An image is a video of one frame and no rate."""

    frames: int
    fps: float  # mean rate, frames / duration; 0 for an image
    height: int  # as displayed, as ``width``
    width: int

    @property
    def duration(self) -> float:
        """Seconds; 0 for an image."""
        return self.frames / self.fps if self.fps else 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decoded file is."""

    ext: str  # by content, not by name
    codec: str
    frames: int
    fps: float  # frames / duration; 0 for images
    width: int
    """As displayed: after rotation. Pixel aspect ratios are not applied (no decoder does)."""
    height: int
    duration: float  # seconds from the first frame's start to the last one's end; 0 for images
    packets: PacketIndex | None = field(default=None, compare=False)
    unindexed: str = ""  # why a video has no packet index
    exif_orientation: int = 1  # of an image, which is not turned by it; 1 = upright


class Rejected(DecodeError):  # noqa: N818 (a verdict, not an error)
    """The file does not qualify; the message is the reason, the same for the same bytes."""


def mean_rate(ticks: Sequence[int], last: int, base: Fraction) -> tuple[float, float]:
    """Frames a second, and seconds from the first frame's start to the last one's end.

    Args:
        ticks: when each frame is shown, in display order.
        last: ticks that the last one lasts; 0 = unknown.
        base: seconds a tick.

    Raises:
        Rejected: no time passes.
    """
    # Matroska gives the last frame no duration; then it lasts as long as most others.
    steps = [later - sooner for sooner, later in pairwise(ticks)]
    span = max(ticks) - min(ticks) + (last or median(steps or [0]))
    if span <= 0:
        raise Rejected("frames without a time")
    seconds = float(span * base)
    return round(len(ticks) / seconds, 6), round(seconds, 6)


def check_size(data: bytes, limits: Limits) -> None:
    """Refuse a file by its number of bytes alone.

    Raises:
        Rejected: none, or over the limit.
    """
    if len(data) > limits.bytes:
        raise Rejected("file too large")
    if not data:
        raise Rejected("empty file")
