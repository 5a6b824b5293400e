"""The optimizer of a run."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sce_video.config.sections import OptimConfig
from sce_video.engine.optim.lars import LARS


def build_optimizer(module: nn.Module, optim: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer over two groups: weights, and biases and norm layers (no decay, no LARS)."""
    trained = [p for p in module.parameters() if p.requires_grad]
    # Decided by the parameter's own shape: under ZeRO the optimizer only sees flat buffers.
    weights: dict[str, Any] = {"params": [p for p in trained if p.ndim > 1]}
    exempt: dict[str, Any] = {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}
    settings: dict[str, Any] = {"lr": optim.lr, "weight_decay": optim.weight_decay}
    if optim.name == "adamw":
        return torch.optim.AdamW([weights, exempt], **settings)
    settings["momentum"] = optim.momentum
    if optim.name == "sgd":
        return torch.optim.SGD([weights, exempt], **settings)
    exempt["adapt"] = False
    return LARS([weights, exempt], **settings)
