"""Lightness and colour by a trunk each: the two views of CMC (Tian et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sce_video.config.recipes import Colour
from sce_video.model.trunks import build_trunk

# Linear sRGB -> XYZ (ITU-R BT.709 primaries, D65). The white point is the matrix's own, so that
# every grey has exactly no colour.
_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
# What sRGB reaches: L, a, b.
_LOW = (0.0, -86.183, -107.857)
_HIGH = (100.0, 98.233, 94.478)


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB of [0,1] -> CIELab (D65, 2 degrees; CIE 15), both ``[...,3]`` float.

    L lies in [0,100], a and b in about [-108,99].
    """
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).pow(2.4))
    matrix = rgb.new_tensor(_XYZ)
    white_share = linear @ (matrix / matrix.sum(1, keepdim=True)).T
    edge = 6 / 29
    fx, fy, fz = torch.where(
        white_share > edge**3,
        white_share.clamp(min=edge**3).pow(1 / 3),  # its slope at black is infinite
        white_share / (3 * edge**2) + 4 / 29,
    ).unbind(-1)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], -1)


class LabTrunk(nn.Module):
    """Two trunks of one kind: ``lightness`` sees L, ``colour`` sees a and b.

    Args:
        name: of a trunk, see :func:`sce_video.model.trunks.build_trunk`.
        width: channels after each stem.
        mean, std: with which the clips were normalised, of [0,1] pixels.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, name: str, width: int, mean: Colour, std: Colour) -> None:
        super().__init__()
        self.lightness = build_trunk(name, width, channels=1)
        self.colour = build_trunk(name, width, channels=2)
        features: int = self.lightness.features  # type: ignore[assignment]
        self.features = 2 * features
        for key, value in {"mean": mean, "std": std, "low": _LOW, "high": _HIGH}.items():
            self.register_buffer(key, torch.tensor(value), persistent=False)

    def split(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised RGB ``[B,3,T,H,W]`` -> L ``[B,1,T,H,W]`` and ab ``[B,2,T,H,W]``.

        Float32 whatever the autocast, channels last, each channel's range in sRGB mapped to [-1,1].
        """
        with torch.autocast(clip.device.type, enabled=False):
            rgb = clip.float().movedim(1, -1) * self.std + self.mean
            lab = rgb_to_lab(rgb.clamp(0, 1))
            lab = (lab - self.low) / (self.high - self.low) * 2 - 1
        lightness, colour = lab[..., :1].contiguous(), lab[..., 1:].contiguous()
        return lightness.movedim(-1, 1), colour.movedim(-1, 1)

    def forward(self, clip: Tensor) -> Tensor:
        """Normalised RGB ``[B,3,T,H,W]`` -> ``[B,2F]``: lightness, then colour."""
        lightness, colour = self.split(clip)
        return torch.cat([self.lightness(lightness), self.colour(colour)], 1)
