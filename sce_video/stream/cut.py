"""Clips out of decoded frames: pick, temporal difference, crop, resize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sce_video.stream.clips import ClipSpec, Indices
from sce_video.stream.crops import Size
from sce_video.video.decode import Backend, decode_frames
from sce_video.video.decode.torchcodec import decode_tensor
from sce_video.video.limits import check_pixels
from sce_video.video.packets import PacketIndex

_LUMA = np.array([0.2989, 0.587, 0.114], dtype=np.float32)  # ITU-R 601

_Part = tuple[slice, slice]  # rows and columns of a frame
_WHOLE = (slice(None), slice(None))

Pixels = Callable[[Sequence[Indices], _Part], Tensor]
"""Decoded frames: (places among them, part of a frame) -> ``[T,3,h,w]``."""


def make_clips(
    data: bytes,
    specs: Sequence[ClipSpec],
    index: PacketIndex | None = None,
    *,
    antialias: bool = True,
    backend: Backend | Literal["cuda"] = "planned",
) -> list[Tensor]:
    """Decode once what all ``specs`` of a video need, and cut them.

    Args:
        data: the video file's bytes.
        specs: the clips to make.
        index: the video's packet index, if it has one.
        antialias: low-pass before shrinking; the published code does not.
        backend: who decodes; ``cuda`` decodes and cuts on the GPU, where rounding may differ by one
            level.

    Returns:
        One tensor ``[T,3,S,S]`` uint8 a spec, channels last in memory if made on the CPU.

    Raises:
        DecodeError: the video does not give the frames, or the backend gets its kind wrong, or
            frames are so narrow that they would be too large with the short side that is asked for.
    """
    needed = all_needed(specs)
    pixels = decode_pixels(data, needed, index, backend)
    return cut_clips(pixels, needed, specs, antialias=antialias)


def decode_pixels(
    data: bytes, needed: Indices, index: PacketIndex | None, backend: Backend | Literal["cuda"]
) -> Pixels:
    """The decoding half of :func:`make_clips`: of the frames ``needed``, ascending."""
    if backend == "cuda":
        return partial(_pixels_on_device, decode_tensor(data, needed, index, "cuda"))
    return partial(_pixels, decode_frames(data, needed, index, backend))


def cut_clips(
    pixels: Pixels, needed: Indices, specs: Sequence[ClipSpec], *, antialias: bool
) -> list[Tensor]:
    """The other half of :func:`make_clips`: ``pixels`` of the frames ``needed``, cut to clips."""
    whole: dict[tuple[bytes, bool, Size], Tensor] = {}  # views of one clip share its frames
    clips = []
    for spec in specs:
        places = [np.searchsorted(needed, numbers) for numbers in needed_frames(spec)]
        top, left, height, width = spec.box
        part = (slice(top, top + height), slice(left, left + width))
        if spec.scale is None:
            crop = pixels(places, part)
        else:
            key = (spec.frames.tobytes(), spec.difference, spec.scale)
            if key not in whole:
                check_pixels(*spec.scale, what="narrow frames, at the size asked for,")
                whole[key] = resize(pixels(places, _WHOLE), spec.scale, antialias)
            crop = whole[key][:, :, *part]
        clips.append(resize(crop, (spec.size, spec.size), antialias).to(torch.uint8))
    return clips


def _pixels(frames: Sequence[NDArray[np.uint8]], places: Sequence[Indices], part: _Part) -> Tensor:
    """``[T,3,h,w]``: a part of some frames, or with a second list of places the difference to them.

    A view of ``[T,h,w,3]``: the layout that resizing is fastest in.
    """
    stacked = [np.stack([frames[i][part] for i in each]) for each in places]
    pixels = temporal_difference(*stacked) if len(stacked) == 2 else stacked[0]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _pixels_on_device(frames: Tensor, places: Sequence[Indices], part: _Part) -> Tensor:
    """As :func:`_pixels`, of frames ``[n,3,H,W]`` on their device; whole levels as float."""
    stacked = [frames[each][:, :, *part] for each in places]
    if len(stacked) == 1:
        return stacked[0].float()
    weights = torch.tensor([2989, 5870, 1140], device=frames.device).view(1, 3, 1, 1)
    gray, later = ((x * weights).sum(1, keepdim=True) // 10000 for x in stacked)
    return ((gray - later + 255) / 2).round().expand(-1, 3, -1, -1)


def all_needed(specs: Sequence[ClipSpec]) -> Indices:
    """Display numbers of all frames that ``specs`` take, ascending, each once."""
    return np.unique(np.concatenate([part for spec in specs for part in needed_frames(spec)]))


def needed_frames(spec: ClipSpec) -> list[Indices]:
    """Display numbers of a clip's frames, and with temporal difference of their successors.

    The clip's last frame has no successor: its difference is the one before it.
    """
    if not spec.difference:
        return [spec.frames]
    last = spec.frames[-1]
    base = np.minimum(spec.frames, max(last - 1, spec.frames[0]))
    return [base, np.minimum(base + 1, last)]


def temporal_difference(
    frames: NDArray[np.uint8], following: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Half the luma's change to the next frame, around mid-grey, on three channels.

    ``(gray_t - gray_{t+1} + 255) / 2`` with the luma truncated to an integer and the result
    rounded: the released uint8 path. ``[T,H,W,3]`` uint8 -> the same.
    """
    gray, next_gray = ((x @ _LUMA).astype(np.int16) for x in (frames, following))
    half = np.rint((gray - next_gray + 255) / 2).astype(np.uint8)
    return np.repeat(half[..., None], 3, axis=-1)


def resize(images: Tensor, size: Size, antialias: bool) -> Tensor:
    """``[T,3,H,W]`` -> ``[T,3,*size]``, bilinear, in whole levels of [0,255].

    Of uint8, or of floats where there is no such kernel; fast on a view of ``[T,H,W,3]`` uint8.
    """
    if images.shape[-2:] == size:
        return images
    made = F.interpolate(images, size, mode="bilinear", antialias=antialias, align_corners=False)
    return made.round_().clamp_(0, 255) if made.is_floating_point() else made
