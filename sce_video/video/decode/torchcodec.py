"""Frames by display number with torchcodec, on the CPU or (NVDEC) on a GPU.

Its approximate seeking gives other frames where the rate varies, so it always seeks exactly.
Refused besides :mod:`refusals`: videos in which it counts other frames than the packet index. It
hides damage: only the check at sharding and the checksums stand against that.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sce_video.errors import UsageError
from sce_video.video.decode.refusals import refuse_defects
from sce_video.video.errors import BackendError, DecodeError, decode_errors
from sce_video.video.packets import PacketIndex

_HINT = (
    "torchcodec does not load: pip install 'sce-video[torchcodec]'; it also needs FFmpeg's shared "
    "libraries (apt install ffmpeg, or LD_LIBRARY_PATH)"
)


def require_cuda() -> None:
    """Refuse ``data.decode=cuda`` where there is no GPU.

    Raises:
        UsageError: CUDA is not available.
    """
    if not torch.cuda.is_available():
        raise UsageError("data.decode=cuda: this machine has no CUDA device; use planned")


def decode(
    data: bytes, numbers: NDArray[np.int64], index: PacketIndex | None
) -> list[NDArray[np.uint8]]:
    """Decode frames by display number; see :func:`~sce_video.video.decode.decode_frames`."""
    return list(decode_tensor(data, numbers, index, "cpu").permute(0, 2, 3, 1).numpy())


def decode_tensor(
    data: bytes, numbers: NDArray[np.int64], index: PacketIndex | None, device: str
) -> Tensor:
    """Frames ``[n,3,H,W]`` uint8 on ``device``; see :func:`~sce_video.video.decode.decode_frames`.

    On a GPU they are decoded by it (NVDEC) and never copied to the host.

    Raises:
        DecodeError: as there, and for kinds of video that torchcodec gets wrong.
        BackendError: torchcodec does not load.
    """
    try:
        from torchcodec.decoders import VideoDecoder
    except ImportError as error:
        raise BackendError(_HINT) from error
    index = refuse_defects(data, index, "torchcodec", ("h264", "hevc", "vp9", "mpeg4", "mjpeg"))
    with decode_errors():
        try:
            decoder = VideoDecoder(
                data, seek_mode="exact", num_ffmpeg_threads=1, dimension_order="NHWC", device=device
            )
        except RuntimeError as error:
            if "Could not load libtorchcodec" in str(error):  # only now: it loads when first used
                raise BackendError(_HINT) from error
            raise
        if len(decoder) != index.frames:
            raise DecodeError(
                f"torchcodec sees {len(decoder)} frames where {index.frames} are shown"
            )
        frames: Tensor = decoder.get_frames_at(numbers.tolist()).data
        return frames.permute(0, 3, 1, 2)
