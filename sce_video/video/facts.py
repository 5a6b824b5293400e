"""What a video or image is: its frames, rate, size and duration; why it is rejected; limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from sce_video.video.container import MAX_PIXELS
from sce_video.video.errors import DecodeError
from sce_video.video.index_check import IndexCheck
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
    width: int  # as displayed: upright; pixels are not made square (no decoder does)
    height: int
    duration: float  # seconds from the first frame's start to the last one's end; 0 for images
    pixel_aspect: str = ""
    """Width to height of a pixel as displayed, ``12:11``; "" = square, or nothing is said."""
    interlaced: bool = False  # some frames are two fields, each of a moment of its own
    exif_orientation: int = 0  # how an image wants to be turned, 2 to 8, which it is not
    ticks: Sequence[int] = field(default=(), compare=False)
    """When each frame of a video is shown, ascending, in units of ``time_base``."""
    time_base: Fraction = Fraction(1)  # seconds a tick
    packets: PacketIndex | None = field(default=None, compare=False)
    unindexed: str = ""  # why a video has no packet index
    check: IndexCheck | None = field(default=None, compare=False)
    """Of a video: whether a packet index gives its frames."""


NOTED = ("exif_orientation", "interlaced", "pixel_aspect")
"""Facts that no decoder acts upon: a sample's json holds them where there is something to say."""


class Rejected(DecodeError):  # noqa: N818 (a verdict, not an error)
    """The file does not qualify; the message is the reason, the same for the same bytes."""


def check_size(data: bytes, limits: Limits) -> None:
    """Refuse a file by its number of bytes alone.

    Raises:
        Rejected: none, or over the limit.
    """
    if len(data) > limits.bytes:
        raise Rejected("file too large")
    if not data:
        raise Rejected("empty file")
