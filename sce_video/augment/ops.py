"""Batched clip ops. Clips ``x [B,T,3,H,W]`` float in [0,1]; parameters ``[B]``, one a clip.

Each op equals torchvision's on every clip alone (``torchvision.transforms.v2.functional``), gives a
new contiguous tensor and has neither branches nor ``torch.where``: that one is not vectorised on
the CPU, ten times slower than arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_BAND = 32  # pixels of output a product of the blur: 3x faster than one product at 224


def _wide(parameter_B: Tensor) -> Tensor:
    return parameter_B.view(-1, 1, 1, 1, 1)


def luma(x: Tensor) -> Tensor:
    """Grey level ``[B,T,1,H,W]``."""
    r, g, b = x.unbind(2)
    return (0.2989 * r).add_(g, alpha=0.587).add_(b, alpha=0.114).unsqueeze(2)


def _blend(x: Tensor, other: Tensor, factor_B: Tensor) -> Tensor:
    return (x * _wide(factor_B)).add_(other * (1 - _wide(factor_B))).clamp_(0, 1)


def brightness(x: Tensor, factor_B: Tensor) -> Tensor:
    """Scale towards black by ``factor >= 0``."""
    return (x * _wide(factor_B)).clamp_(0, 1)


def contrast(x: Tensor, factor_B: Tensor) -> Tensor:
    """Scale around each frame's mean grey."""
    return _blend(x, luma(x).mean((-2, -1), keepdim=True), factor_B)


def saturation(x: Tensor, factor_B: Tensor) -> Tensor:
    """Scale around each pixel's grey."""
    return _blend(x, luma(x), factor_B)


def hue(x: Tensor, factor_B: Tensor) -> Tensor:
    """Turn the hue by ``factor`` in turns, in [-0.5, 0.5]."""
    r, g, b = x.unbind(2)
    high = torch.maximum(torch.maximum(r, g), b)
    low = torch.minimum(torch.minimum(r, g), b)
    span = high - low
    # The hue in sixths of a turn, times the span; a weight is 0 where that channel is the highest.
    other = torch.lerp((b - r).add_(span, alpha=2), (r - g).add_(span, alpha=4), (high - g).sign_())
    sixths = torch.lerp(g - b, other, (high - r).sign_())
    sixths = sixths.div_(span.clamp(min=1e-12)).add_(6 * factor_B.view(-1, 1, 1, 1))
    sixths = sixths.sub_((sixths / 6).floor_(), alpha=6)
    # HSV to RGB without cases: a channel falls off around its own sector.
    shares = (
        (sixths - 3).abs_().sub_(1),
        (sixths - 2).abs_().neg_().add_(2),
        (sixths - 4).abs_().neg_().add_(2),
    )
    return torch.stack([torch.addcmul(low, span, share.clamp_(0, 1)) for share in shares], 2)


def grayscale(x: Tensor) -> Tensor:
    """Grey on three channels."""
    return luma(x).expand_as(x).contiguous()


def blur(x: Tensor, sigma_B: Tensor, kernel: int) -> Tensor:
    """Gaussian blur with ``kernel`` (odd) taps and reflected borders; sigma in pixels, > 0.

    A clip's kernel is a banded matrix on each axis; only its band is multiplied.

    Raises:
        ValueError: a side is too small for its borders to be reflected.
    """
    b, t, c, h, w = x.shape
    half = kernel // 2
    if min(h, w) <= half:
        raise ValueError(f"{h}x{w} pixels are too few for a blur of {kernel} taps")
    taps = torch.arange(-half, half + 1, device=x.device)
    weight_BK = torch.softmax(-0.5 * (taps / sigma_B[:, None]) ** 2, dim=1)
    weight_BK = weight_BK * (weight_BK > 1e-12)  # denormal numbers are slow to multiply
    rows, across = x.reshape(b, t * c * h, w), x.new_empty(b, t * c * h, w)
    matrix_BWW = _blur_matrix(weight_BK, taps, w)
    for out, seen in _bands(w, half):
        across[:, :, out] = rows[:, :, seen] @ matrix_BWW[:, out, seen].mT
    columns, blurred = across.view(b, t * c, h, w), x.new_empty(b, t * c, h, w)
    matrix_BHH = _blur_matrix(weight_BK, taps, h)
    for out, seen in _bands(h, half):
        blurred[:, :, out] = matrix_BHH[:, None, out, seen] @ columns[:, :, seen]
    return blurred.view(x.shape)


def _blur_matrix(weight_BK: Tensor, taps: Tensor, side: int) -> Tensor:
    """``[B,side,side]``: row i holds what makes pixel i of the output."""
    places = (torch.arange(side, device=taps.device)[:, None] + taps).abs()
    places = (side - 1) - ((side - 1) - places).abs()  # reflected at both ends
    shape = (len(weight_BK), *places.shape)
    matrix = weight_BK.new_zeros(len(weight_BK), side, side)
    return matrix.scatter_add_(2, places.expand(shape), weight_BK[:, None].expand(shape))


def _bands(side: int, half: int) -> Iterator[tuple[slice, slice]]:
    """Pixels to make, and the pixels that they are made of."""
    for begin in range(0, side, _BAND):
        end = min(begin + _BAND, side)
        yield slice(begin, end), slice(max(begin - half, 0), min(end + half, side))


def solarize(x: Tensor) -> Tensor:
    """Invert what is at least 0.5."""
    return torch.minimum(x, 1 - x)


def normalise(x: Tensor, mean_C: Tensor, std_C: Tensor) -> Tensor:
    """``[B,T,3,H,W]`` in [0,1] -> ``[B,3,T,H,W]``, minus mean over std a channel."""
    x = (x - mean_C.view(1, 1, 3, 1, 1)).div_(std_C.view(1, 1, 3, 1, 1))
    # channels_last_3d: convolutions take it as it is, 1.5x faster on the CPU
    return x.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
