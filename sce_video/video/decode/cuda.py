"""Frames by display number on the GPU (NVDEC, through torchcodec), never copied to the host.

Not run on a GPU yet; the tests run all of it with torchcodec on the CPU.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sce_video.errors import UsageError
from sce_video.video.decode.torchcodec import decode_on
from sce_video.video.packets import PacketIndex


def require_cuda() -> None:
    """Refuse ``data.decode=cuda`` where there is no GPU.

    Raises:
        UsageError: CUDA is not available.
    """
    if not torch.cuda.is_available():
        raise UsageError("data.decode=cuda: this machine has no CUDA device; use planned")


def decode_tensor(
    data: bytes, numbers: NDArray[np.int64], index: PacketIndex | None, device: str = "cuda"
) -> Tensor:
    """Frames ``[n,3,H,W]`` uint8 on ``device``; see :func:`~sce_video.video.decode.decode_frames`.

    Raises:
        DecodeError: as there, and for kinds of video that torchcodec gets wrong.
        BackendError: torchcodec does not load.
    """
    frames: Tensor = decode_on(data, numbers, index, device)
    return frames.permute(0, 3, 1, 2)
