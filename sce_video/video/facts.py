"""What a video or image is: its frames, rate, size and duration; why it is rejected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

from sce_video.video.errors import DecodeError, decode_errors
from sce_video.video.index_check import IndexCheck
from sce_video.video.packets import PacketIndex


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


@contextmanager
def rejections(damaged: str) -> Iterator[None]:
    """Context in which a file is examined: whatever is said against it is a rejection.

    Args:
        damaged: what is said where a library fails.

    Raises:
        Rejected: for what was raised in the context.
    """
    try:
        with decode_errors(damaged):
            yield
    except Rejected:
        raise
    except DecodeError as error:
        raise Rejected(str(error)) from error
