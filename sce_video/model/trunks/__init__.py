"""Trunks by name: clip -> pooled feature, the representation that evaluation uses."""

from __future__ import annotations

from importlib import import_module

from torch import nn

from sce_video.arguments import did_you_mean
from sce_video.config.trunks import TRUNKS
from sce_video.errors import UsageError


def build_trunk(name: str, width: int = 64, channels: int = 3) -> nn.Module:
    """Build a trunk with fresh weights from torch's global generator.

    Args:
        name: a key of :data:`sce_video.config.trunks.TRUNKS`.
        width: channels after the stem; 64 is the published network.
        channels: of the input.

    Returns:
        ``[B,channels,T,H,W]`` -> ``[B,features]``, with an int attribute ``features``.

    Raises:
        UsageError: unknown name, with the nearest known one.
    """
    if name not in TRUNKS:
        raise UsageError(f"model.trunk: unknown '{name}'{did_you_mean(name, TRUNKS)}")
    module = import_module(f"sce_video.model.trunks.{TRUNKS[name].module}")
    trunk: nn.Module = getattr(module, name)(width, channels)
    return trunk
