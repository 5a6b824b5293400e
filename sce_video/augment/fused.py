"""A view of a whole batch as a few compiled loops: what a GPU runs.

The ops of :mod:`sce_video.augment.ops`, as arithmetic on three planes ``[B,T,H,W]``, red, green and
blue. Every clip goes through every op, with parameters that change nothing where it was not chosen:
no shape depends on the draws, nothing is gathered, and no device is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sce_video.augment.parameters import ViewParams
from sce_video.compiler import prepare
from sce_video.config.recipes import Colour, ViewRecipe

Planes = Sequence[Tensor]

_FLIP, _GRAY, _SOLARIZE, _KINDS, _FACTORS, _TAPS = 0, 1, 2, 3, 7, 11  # columns of the numbers
_CONTRAST, _SATURATION, _HUE = 1, 2, 3  # kinds of jitter; 0 is brightness


class FusedView:
    """Makes views on a device, whole batches of one size; compiles when it first meets a size."""

    def __init__(self) -> None:
        prepare()
        self._means = torch.compile(means_before_contrast, dynamic=False)
        self._view = torch.compile(fused_view, dynamic=False)

    def __call__(
        self, clips: Tensor, params: ViewParams, view: ViewRecipe, stats: tuple[Colour, Colour]
    ) -> Tensor:
        """``[B,T,3,H,W]`` uint8 -> ``[B,3,T,H,W]`` normalised float32, channels last."""
        numbers = torch.from_numpy(as_numbers(params, view)).to(clips.device, non_blocking=True)
        means = self._means(clips, numbers) if view.jitter else None
        made: Tensor = self._view(clips, numbers, means, view.kernel if view.blur else 0, stats)
        return made


def as_numbers(params: ViewParams, view: ViewRecipe) -> NDArray[np.float32]:
    """All parameters of the clips in one table ``[B,11+taps]``, so that they are sent at once.

    Columns: flip, gray and solarize (0 or 1); kind and factor of the jitter at each of its four
    places; weights of the blur. What changes nothing is a brightness of 1, and a single weight.
    """
    half = view.kernel // 2
    taps = np.arange(-half, half + 1)
    spread = np.exp(-0.5 * (taps / params.sigma[:, None]) ** 2)
    weights = np.where(params.blur[:, None], spread / spread.sum(1, keepdims=True), taps == 0)
    kinds = np.where(params.jitter[:, None], params.order, 0)
    factors = np.take_along_axis(params.factors, params.order, axis=1)
    factors = np.where(params.jitter[:, None], factors, 1)
    flags = np.stack([params.flip, params.gray, params.solarize], axis=1)
    return np.concatenate([flags, kinds, factors, weights], axis=1).astype(np.float32)


def means_before_contrast(clips: Tensor, numbers: Tensor) -> Tensor:
    """Mean grey of each frame as contrast will find it, ``[B,T,1,1]``."""
    _, grey = _jitter(_planes(clips, numbers), numbers, None)
    return grey.mean((-2, -1), keepdim=True)


def fused_view(
    clips: Tensor,
    numbers: Tensor,
    means: Tensor | None,
    taps: int,
    stats: tuple[Colour, Colour],
) -> Tensor:
    """The view.

    Args:
        clips: ``[B,T,3,H,W]`` uint8.
        numbers: of :func:`as_numbers`.
        means: of :func:`means_before_contrast`; None = no clip is jittered.
        taps: of the blur; 0 = no clip is blurred.
        stats: mean and std of the channels.
    """
    rgb: Planes = _planes(clips, numbers)
    if means is not None:
        rgb, _ = _jitter(rgb, numbers, means)
    gray, grey = _column(numbers, _GRAY) > 0, _luma(rgb)
    rgb = [torch.where(gray, grey, x) for x in rgb]
    if taps:
        weights = [_column(numbers, _TAPS + tap) for tap in range(taps)]
        rgb = [_blurred(_blurred(x, weights, 3), weights, 2) for x in rgb]
    solarize = _column(numbers, _SOLARIZE) > 0
    rgb = [torch.where(solarize, torch.minimum(x, 1 - x), x) for x in rgb]
    made = [(x - mean) / std for x, mean, std in zip(rgb, *stats, strict=True)]
    return torch.stack(made, -1).permute(0, 4, 1, 2, 3)  # which is channels_last_3d


def _column(numbers: Tensor, place: int) -> Tensor:
    return numbers[:, place].view(-1, 1, 1, 1)


def _planes(clips: Tensor, numbers: Tensor) -> Planes:
    """Flipped first: the other ops do not see the difference, and of bytes it is cheapest."""
    flip = _column(numbers, _FLIP) > 0
    return [torch.where(flip, x.flip(-1), x).float() / 255 for x in clips.unbind(2)]


def _luma(rgb: Planes) -> Tensor:
    r, g, b = rgb
    return 0.2989 * r + 0.587 * g + 0.114 * b


def _jitter(rgb: Planes, numbers: Tensor, means: Tensor | None) -> tuple[Planes, Tensor]:
    """The jittered planes, and grey as it is before contrast; without ``means`` that alone."""
    seen = torch.zeros_like(rgb[0])
    for place in range(4):
        kind, factor = _column(numbers, _KINDS + place), _column(numbers, _FACTORS + place)
        grey, turned = _luma(rgb), _turned(rgb, factor)
        seen = torch.where(kind == _CONTRAST, grey, seen)
        other = torch.where(kind == _SATURATION, grey, 0)
        if means is not None:
            other = torch.where(kind == _CONTRAST, means, other)
        blended = [(x * factor + other * (1 - factor)).clamp(0, 1) for x in rgb]
        rgb = [torch.where(kind == _HUE, *both) for both in zip(turned, blended, strict=True)]
    return rgb, seen


def _turned(rgb: Planes, turn: Tensor) -> Planes:
    """As :func:`sce_video.augment.ops.hue`."""
    r, g, b = rgb
    high = torch.maximum(torch.maximum(r, g), b)
    low = torch.minimum(torch.minimum(r, g), b)
    span = high - low
    other = torch.where(high == g, b - r + 2 * span, r - g + 4 * span)
    sixths = torch.where(high == r, g - b, other) / span.clamp(min=1e-12) + 6 * turn
    sixths = sixths - 6 * torch.floor(sixths / 6)
    shares = ((sixths - 3).abs() - 1, 2 - (sixths - 2).abs(), 2 - (sixths - 4).abs())
    return [low + span * share.clamp(0, 1) for share in shares]


def _blurred(x: Tensor, weights: Sequence[Tensor], dim: int) -> Tensor:
    """A tap after the other along an axis, reflected at its ends."""
    last, half = x.shape[dim] - 1, len(weights) // 2
    places = torch.arange(x.shape[dim], device=x.device)
    total = torch.zeros_like(x)
    for tap, weight in enumerate(weights):
        seen = last - (last - (places + (tap - half)).abs()).abs()
        total = total + weight * x.index_select(dim, seen)
    return total
