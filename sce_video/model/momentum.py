"""The momentum encoder: a moving average of the online encoder."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def momentum_copy(online: Module) -> Module:
    """An exact copy (parameters and buffers) that gets no gradient."""
    return copy.deepcopy(online).requires_grad_(False)


@torch.no_grad()
def update_momentum(target: nn.Module, online: nn.Module, m: float) -> None:
    """``target <- m * target + (1 - m) * online``, parameters only.

    BN statistics of the momentum branch follow from its own forward passes in train mode, as in
    the reference implementation.
    """
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1.0 - m)
