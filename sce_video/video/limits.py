"""What one media file may cost whoever reads it; checked before memory is taken for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sce_video.files import read_plain
from sce_video.video.errors import DecodeError

MOST_SECONDS = 10_000_000
"""That a video may last (115 days): more is a header's mistake, and makes rates of zero."""


@dataclass(frozen=True)
class Limits:
    """What one file may cost. All but the CPU time are properties of the file alone."""

    bytes: int = 1 << 30
    frames: int = 500_000
    pixels: int = 1 << 26  # per frame
    cpu_seconds: int = 1_200
    min_frames: int = 2


DEFAULT_LIMITS = Limits()
"""What a file may cost if nothing else is said: the limits of every reader."""


def check_bytes(data: bytes, limits: Limits = DEFAULT_LIMITS) -> None:
    """Refuse a file by its number of bytes alone.

    Raises:
        DecodeError: none, or over the limit.
    """
    if not data:
        raise DecodeError("empty file")
    if len(data) > limits.bytes:
        raise DecodeError("file too large")


def check_pixels(
    width: int, height: int, limits: Limits = DEFAULT_LIMITS, what: str = "frames"
) -> None:
    """Refuse frames of more pixels than they may have, by what a header says of them.

    Raises:
        DecodeError: they have more.
    """
    if width * height > limits.pixels:
        raise DecodeError(f"{what} too large")


def read_media(path: Path) -> bytes:
    """The bytes of a video's or an image's file that the user named; a link is followed.

    Raises:
        OSError: it cannot be read, is no regular file, or has more bytes than it may.
    """
    return read_plain(path, limit=DEFAULT_LIMITS.bytes, follow=True)
