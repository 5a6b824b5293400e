"""Rows of all ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def _alone() -> bool:
    return not dist.is_initialized() or dist.get_world_size() == 1


def current_rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def gather(x: Tensor) -> Tensor:
    """``[N,...]`` of every rank, rank-major ``[W*N,...]``; no gradient."""
    x = x.detach().contiguous()
    if _alone():
        return x
    everyone = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, x)
    return torch.cat(everyone)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        return gather(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # Every rank's loss depends on these rows; keeping only the own slice would lose the others.
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[dist.get_rank() * ctx.rows :][: ctx.rows]


def gather_with_gradient(x: Tensor) -> Tensor:
    """:func:`gather` whose backward pass sums the gradients of all ranks."""
    if _alone():
        return x
    everyone: Tensor = _Gather.apply(x)
    return everyone
