"""Video bytes -> frames. Every backend: the same frames, the same errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sce_video.shard.packets import PacketIndex
from sce_video.stream.decode.errors import DecodeError
from sce_video.stream.decode.planned import decode_planned
from sce_video.stream.decode.pyav import decode_pyav

__all__ = ["DecodeError", "decode_frames"]


def decode_frames(
    data: bytes,
    numbers: Sequence[int] | NDArray[np.int64],
    index: PacketIndex | None = None,
) -> NDArray[np.uint8]:
    """Decode frames by display number.

    Args:
        data: a video file's bytes.
        numbers: display numbers ``[n]``, strictly ascending, from 0.
        index: its packet index; None = decode from the start of the file.

    Returns:
        RGB frames ``[n,H,W,3]`` uint8, turned upright if the file says so.

    Raises:
        DecodeError: not a video, damaged, of changing size, or with too few frames.
    """
    wanted = np.asarray(numbers, np.int64)
    return decode_pyav(data, wanted) if index is None else decode_planned(data, index, wanted)
