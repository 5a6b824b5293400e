"""Batched clip ops. Clips ``x [B,T,3,H,W]`` float in [0,1]; parameters ``[B]``, one a clip.

Each op equals torchvision's on every clip alone (``torchvision.transforms.v2.functional``).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def _wide(parameter_B: Tensor) -> Tensor:
    return parameter_B.view(-1, 1, 1, 1, 1)


def luma(x: Tensor) -> Tensor:
    """Grey level ``[B,T,1,H,W]``."""
    r, g, b = x.unbind(2)
    return (0.2989 * r + 0.587 * g + 0.114 * b).unsqueeze(2)


def _blend(x: Tensor, other: Tensor, factor_B: Tensor) -> Tensor:
    return torch.lerp(other, x, _wide(factor_B)).clamp_(0, 1)


def brightness(x: Tensor, factor_B: Tensor) -> Tensor:
    """Scale towards black by ``factor >= 0``."""
    return (x * _wide(factor_B)).clamp_(0, 1)


def contrast(x: Tensor, factor_B: Tensor) -> Tensor:
    """Scale around each frame's mean grey."""
    return _blend(x, luma(x).mean((-3, -2, -1), keepdim=True), factor_B)


def saturation(x: Tensor, factor_B: Tensor) -> Tensor:
    """Scale around each pixel's grey."""
    return _blend(x, luma(x), factor_B)


def hue(x: Tensor, factor_B: Tensor) -> Tensor:
    """Turn the hue by ``factor`` in turns, in [-0.5, 0.5]."""
    highest, which = x.max(2)
    span = highest - x.amin(2)
    r, g, b = x.unbind(2)
    safe = torch.where(span > 0, span, 1.0)
    sector = torch.where(which == 0, (g - b) / safe, (b - r) / safe + 2)
    sector = torch.where(which == 2, (r - g) / safe + 4, sector)
    turned = sector + 6 * factor_B.view(-1, 1, 1, 1)
    # HSV to RGB without cases: channel n falls off around its own sector.
    channels = []
    for n in (5.0, 3.0, 1.0):
        k = torch.remainder(turned + n, 6)
        channels.append(highest - span * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, 2)


def grayscale(x: Tensor) -> Tensor:
    """Grey on three channels."""
    return luma(x).expand_as(x)


def blur(x: Tensor, sigma_B: Tensor, kernel: int) -> Tensor:
    """Gaussian blur with ``kernel`` (odd) taps and reflected borders; sigma in pixels, > 0."""
    taps = torch.arange(kernel, device=x.device, dtype=x.dtype) - kernel // 2
    weight_BK = torch.softmax(-0.5 * (taps / sigma_B[:, None]) ** 2, dim=1)
    b, t, c, h, w = x.shape
    # One group a clip: each clip has its own kernel.
    flat = x.transpose(0, 1).reshape(t, b, c, h, w).transpose(1, 2).reshape(t * c, b, h, w)
    half = kernel // 2
    flat = F.pad(flat, (half, half, half, half), mode="reflect")
    flat = F.conv2d(flat, weight_BK[:, None, None, :], groups=b)
    flat = F.conv2d(flat, weight_BK[:, None, :, None], groups=b)
    return flat.view(t, c, b, h, w).permute(2, 0, 1, 3, 4)


def solarize(x: Tensor, threshold: float) -> Tensor:
    """Invert what is at least ``threshold``."""
    return torch.where(x >= threshold, 1 - x, x)
