"""``data.decode=cuda``: clips are decoded (NVDEC, through torchcodec) and cut on the GPU.

Frames are chosen by the same plan as on the CPU and never copied to the host. Not run on a GPU yet;
the tests run all of it with torchcodec on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sce_video.errors import UsageError
from sce_video.stream.clips import ClipSpec
from sce_video.stream.crops import Size
from sce_video.stream.cut import all_needed, needed_frames, resize
from sce_video.video.packets import PacketIndex


def require_cuda() -> None:
    """Refuse ``data.decode=cuda`` where there is no GPU.

    Raises:
        UsageError: CUDA is not available.
    """
    if not torch.cuda.is_available():
        raise UsageError("data.decode=cuda: this machine has no CUDA device; use planned")


def make_clips_on(
    device: str,
    data: bytes,
    specs: Sequence[ClipSpec],
    index: PacketIndex | None,
    *,
    antialias: bool = True,
) -> list[Tensor]:
    """As :func:`sce_video.stream.cut.make_clips`, on ``device``; rounding may differ by one level.

    Raises:
        DecodeError: the video does not give the frames, or is of a kind that torchcodec gets wrong.
    """
    from sce_video.video.decode.torchcodec import decode_on

    needed = all_needed(specs)
    return cut_clips_of(decode_on(data, needed, index, device), needed, specs, antialias=antialias)


def cut_clips_of(
    frames: Tensor,
    needed: NDArray[np.int64],
    specs: Sequence[ClipSpec],
    *,
    antialias: bool = True,
) -> list[Tensor]:
    """As :func:`sce_video.stream.cut.cut_clips`, of ``frames [n,H,W,3]`` where they are."""
    frames = frames.permute(0, 3, 1, 2)
    clips = []
    for spec in specs:
        parts = [frames[np.searchsorted(needed, numbers)] for numbers in needed_frames(spec)]
        images = _difference(*parts) if spec.difference else parts[0].float()
        if spec.scale:
            images = _resize(images, spec.scale, antialias)
        top, left, height, width = spec.box
        crop = images[:, :, top : top + height, left : left + width]
        clips.append(_resize(crop, (spec.size, spec.size), antialias).to(torch.uint8))
    return clips


def _difference(frames: Tensor, following: Tensor) -> Tensor:
    """:func:`sce_video.stream.cut.temporal_difference` of ``[T,3,H,W]`` uint8, as float."""
    weights = torch.tensor([2989, 5870, 1140], device=frames.device).view(1, 3, 1, 1)
    gray, later = ((x * weights).sum(1, keepdim=True) // 10000 for x in (frames, following))
    return ((gray - later + 255) / 2).round().expand(-1, 3, -1, -1)


def _resize(images: Tensor, size: Size, antialias: bool) -> Tensor:
    """Float in, float out, rounded to whole levels as the uint8 resize of the CPU does."""
    return resize(images, size, antialias).round().clamp(0, 255)
