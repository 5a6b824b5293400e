"""Clips out of decoded frames: pick, temporal difference, crop, resize."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sce_video.stream.clips import ClipSpec
from sce_video.stream.crops import Size
from sce_video.video.decode import Backend, decode_frames
from sce_video.video.packets import PacketIndex

_LUMA = np.array([0.2989, 0.587, 0.114], dtype=np.float32)  # ITU-R 601


def make_clips(
    data: bytes,
    specs: Sequence[ClipSpec],
    index: PacketIndex | None = None,
    *,
    antialias: bool = True,
    backend: Backend = "planned",
) -> list[Tensor]:
    """Decode once what all ``specs`` of a video need, and cut them.

    Args:
        data: the video file's bytes.
        specs: the clips to make.
        index: the video's packet index, if it has one.
        antialias: low-pass before shrinking; the published code does not.
        backend: who decodes.

    Returns:
        One tensor ``[T,3,S,S]`` uint8 a spec, channels last in memory.

    Raises:
        DecodeError: the video does not give the frames.
    """
    needed = all_needed(specs)
    frames = decode_frames(data, needed, index, backend)
    return cut_clips(frames, needed, specs, antialias=antialias)


def cut_clips(
    frames: Sequence[NDArray[np.uint8]],
    needed: NDArray[np.int64],
    specs: Sequence[ClipSpec],
    *,
    antialias: bool = True,
) -> list[Tensor]:
    """The part of :func:`make_clips` after decoding.

    Args:
        frames: of the display numbers ``needed``, each ``[H,W,3]``.
        needed: what :func:`all_needed` gives for ``specs``.
        specs: the clips to make.
        antialias: low-pass before shrinking.
    """
    whole: dict[tuple[bytes, bool, Size], Tensor] = {}  # views of one clip share its frames
    clips = []
    for spec in specs:
        places = [np.searchsorted(needed, numbers) for numbers in needed_frames(spec)]
        top, left, height, width = spec.box
        if spec.scale is None:
            part = (slice(top, top + height), slice(left, left + width))
            crop = _pixels([[frames[i][part] for i in each] for each in places])
        else:
            key = (spec.frames.tobytes(), spec.difference, spec.scale)
            if key not in whole:
                images = _pixels([[frames[i] for i in each] for each in places])
                whole[key] = resize(images, spec.scale, antialias)
            crop = whole[key][:, :, top : top + height, left : left + width]
        clips.append(resize(crop, (spec.size, spec.size), antialias))
    return clips


def all_needed(specs: Sequence[ClipSpec]) -> NDArray[np.int64]:
    """Display numbers of all frames that ``specs`` take, ascending, each once."""
    return np.unique(np.concatenate([part for spec in specs for part in needed_frames(spec)]))


def needed_frames(spec: ClipSpec) -> list[NDArray[np.int64]]:
    """Display numbers of a clip's frames, and with temporal difference of their successors.

    The clip's last frame has no successor: its difference is the one before it.
    """
    if not spec.difference:
        return [spec.frames]
    last = spec.frames[-1]
    base = np.minimum(spec.frames, max(last - 1, spec.frames[0]))
    return [base, np.minimum(base + 1, last)]


def _pixels(images: Sequence[Sequence[NDArray[np.uint8]]]) -> Tensor:
    """``[T,3,H,W]``: the frames, or with a second list of frames the difference to them.

    A view of ``[T,H,W,3]``: the layout that resizing is fastest in.
    """
    stacked = [np.stack(each) for each in images]
    pixels = temporal_difference(*stacked) if len(stacked) == 2 else stacked[0]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


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
    """``[T,3,H,W]`` -> ``[T,3,*size]``, bilinear; of uint8, fast on a view of ``[T,H,W,3]``."""
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=antialias, align_corners=False)
