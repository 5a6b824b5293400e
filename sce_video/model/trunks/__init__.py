"""Trunks by name: clip -> pooled feature, the representation that evaluation uses."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from sce_video.errors import UsageError
from sce_video.model.trunks.r2plus1d import R2Plus1D18
from sce_video.model.trunks.r3d import r2plus1d_50, r3d_18, r3d_50
from sce_video.model.trunks.resnet import ResNet

TRUNKS: dict[str, Callable[[int, int], nn.Module]] = {
    "r3d_18": r3d_18,
    "r3d_50": r3d_50,
    "r2plus1d_18": R2Plus1D18,
    # For clips of some 8 frames and 32 pixels: the full strides leave 1 x 2 x 2 of them (these 2 x
    # 4 x 4), too little for an untrained trunk to tell videos apart: contrastive training stands
    # still for hundreds of steps.
    "r2plus1d_18_small": partial(R2Plus1D18, strides=(2, 2, 1, 1)),
    "r2plus1d_50": r2plus1d_50,
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet18_small": partial(ResNet, BasicBlock, (2, 2, 2, 2), small=True),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
}
"""Name -> builder of (width, channels); a trunk has an int attribute ``features``."""


def build_trunk(name: str, width: int = 64, channels: int = 3) -> nn.Module:
    """Build a trunk with fresh weights from torch's global generator.

    Args:
        name: a key of :data:`TRUNKS`.
        width: channels after the stem; 64 is the published network.
        channels: of the input.

    Returns:
        ``[B,channels,T,H,W]`` -> ``[B,features]``.

    Raises:
        UsageError: unknown name, with the nearest known one.
    """
    if name not in TRUNKS:
        near = difflib.get_close_matches(name, TRUNKS, n=1, cutoff=0.0)
        raise UsageError(f"model.trunk: unknown '{name}'; did you mean '{near[0]}'?")
    return TRUNKS[name](width, channels)
