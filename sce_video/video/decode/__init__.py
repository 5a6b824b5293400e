"""Video or image bytes -> frames. Every backend: the same frames, the same errors.

A backend that is known to give other frames for a kind of video refuses that kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sce_video.video.errors import BackendError, DecodeError
from sce_video.video.kinds import IMAGE_MAGIC
from sce_video.video.packets import PacketIndex

__all__ = ["Backend", "BackendError", "DecodeError", "decode_frames"]

Backend = Literal["planned", "pyav", "decord", "torchcodec"]
"""``planned`` is the fastest and needs a packet index; without one it is ``pyav``."""


def decode_frames(
    data: bytes,
    numbers: Sequence[int] | NDArray[np.int64],
    index: PacketIndex | None = None,
    backend: Backend = "planned",
) -> list[NDArray[np.uint8]]:
    """Decode frames by display number.

    Args:
        data: a video file's bytes, or an image's.
        numbers: display numbers ``[n]``, strictly ascending, from 0.
        index: its packet index; None = decode from the start of the file.
        backend: who decodes.

    Returns:
        n RGB frames ``[H,W,3]`` uint8, turned upright if the file says so. They may be views of
        padded memory.

    Raises:
        DecodeError: not a video, damaged, of changing size, or with too few frames; or of a kind
            that the backend is known to get wrong.
        BackendError: the backend is not installed.
    """
    wanted = np.asarray(numbers, np.int64)
    if data.startswith(IMAGE_MAGIC):
        name = "image"
    else:
        name = "pyav" if backend == "planned" and index is None else backend
    module = import_module(f"{__name__}.{name}")
    frames: list[NDArray[np.uint8]] = module.decode(data, wanted, index)
    if len({frame.shape for frame in frames}) > 1:
        raise DecodeError("the size of its frames changes")
    return frames
