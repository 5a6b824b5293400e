"""Frames by display number with PyAV, in one pass from the start of the video."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sce_video.video.container import open_video, upright_rgb
from sce_video.video.errors import DecodeError, decode_errors
from sce_video.video.orientation import orientation_of
from sce_video.video.packets import PacketIndex


def decode(
    data: bytes, numbers: NDArray[np.int64], index: PacketIndex | None = None
) -> list[NDArray[np.uint8]]:
    """Decode frames by display number; see :func:`~sce_video.video.decode.decode_frames`.

    The ``index`` is not needed.
    """
    wanted = numbers.tolist()
    images: list[NDArray[np.uint8]] = []
    with decode_errors(), open_video(data) as (container, stream):
        for number, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise DecodeError(f"frame {number} is corrupt")
            if number == wanted[len(images)]:
                images.append(upright_rgb(frame, orientation_of(frame)))
                if len(images) == len(wanted):
                    break
    if len(images) < len(wanted):
        raise DecodeError(f"ends before frame {wanted[len(images)]}")
    return images
