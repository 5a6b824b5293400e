"""The momentum encoder: a moving average of the online encoder."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

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
    the reference implementation. Under ZeRO-3 every rank moves its shards; every rank must call.
    """
    # Parameters of one shape are cut alike, so the shards of both branches line up.
    mine, theirs = ([getattr(p, "ds_tensor", p) for p in n.parameters()] for n in (target, online))
    torch._foreach_lerp_(mine, theirs, 1.0 - m)
    # ZeRO-3 keeps small parameters gathered: these copies would stay as they were.
    whole: list[Any] = [p for p in target.parameters() if hasattr(p, "ds_tensor") and p.numel()]
    if whole:
        whole[0].partition(whole)
        whole[0].all_gather(whole)
