"""Which way up a video is shown: one of the eight ways a picture can lie, told by a display matrix.

The matrix stands in the container (MP4, MOV, Matroska) or in the stream (an SEI message of H.264
and HEVC, EXIF in motion JPEG). FFmpeg applies it when it plays or converts; here it is read once,
where a video is examined, and applied where frames become RGB. Players agree on it as far as it
mirrors and turns by quarters; what else a matrix can say is refused.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from sce_video.video.errors import DecodeError


class Orientation(NamedTuple):
    """How a decoded frame becomes upright: mirrored first, if so, then turned."""

    mirrored: bool = False  # left to right
    degrees: int = 0  # counter-clockwise: 0, 90, 180 or 270

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a frame once it is upright."""
        return (height, width) if self.degrees % 180 else (width, height)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image ``[H,W,3]`` upright; a view."""
        image = image[:, ::-1] if self.mirrored else image
        return np.rot90(image, self.degrees // 90) if self.degrees else image

    @property
    def filters(self) -> list[tuple[str, str | None]]:
        """FFmpeg's filters, with their arguments, that do as :meth:`apply`."""
        return [*_MIRROR[: self.mirrored], *_TURNS[self.degrees]]


def _add_type(cls: type[Type], value: object) -> Type:
    """A member for a kind of side data that FFmpeg has and PyAV has no name for, such as EXIF.

    Without one PyAV shows none of the others on a frame.
    """
    member = object.__new__(cls)
    member._name_, member._value_ = f"TYPE_{value}", value  # type: ignore[assignment]
    cls._value2member_map_[value] = member
    return member


Type._missing_ = classmethod(_add_type)  # type: ignore[assignment]

UPRIGHT = Orientation()
_MIRROR: list[tuple[str, str | None]] = [("hflip", None)]
_TURNS: dict[int, list[tuple[str, str | None]]] = {
    0: [],
    90: [("transpose", "cclock")],
    180: [("hflip", None), ("vflip", None)],
    270: [("transpose", "clock")],
}
# The signs of a, b, c, d, where x' = a x + c y and y' = b x + d y, y downwards; next to nothing is
# nothing (some muxers round sines).
_SIGNS = {
    (1, 0, 0, 1): UPRIGHT,
    (0, -1, 1, 0): Orientation(degrees=90),
    (-1, 0, 0, -1): Orientation(degrees=180),
    (0, 1, -1, 0): Orientation(degrees=270),
    (-1, 0, 0, 1): Orientation(mirrored=True),
    (0, 1, 1, 0): Orientation(mirrored=True, degrees=90),
    (1, 0, 0, -1): Orientation(mirrored=True, degrees=180),
    (0, -1, -1, 0): Orientation(mirrored=True, degrees=270),
}


def orientation_of(frame: VideoFrame) -> Orientation:
    """How a container's frame becomes upright; without a matrix it is so.

    Sizes in a matrix are another way to say the shape of pixels, and as that are not applied.

    Raises:
        DecodeError: its matrix shears, turns by less than a quarter, or makes nothing of it.
    """
    if not frame.side_data:
        return UPRIGHT
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    if matrix is None:
        return UPRIGHT
    a, b, u, c, d, v, *_ = struct.unpack("=9i", bytes(matrix))
    most = max(map(abs, (a, b, c, d)))
    signs = tuple((64 * value > most) - (64 * value < -most) for value in (a, b, c, d))
    found = _SIGNS.get(signs)
    if found is None or u or v:
        raise DecodeError("turned other than by quarters")
    return found
