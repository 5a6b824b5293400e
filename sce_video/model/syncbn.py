"""Batch normalisation over the batches of all ranks, on any device and backend.

torch's own SyncBatchNorm refuses CPU tensors, and gathers from every rank; this one all-reduces
``2C + 1`` numbers a layer.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Normalise(torch.autograd.Function):
    """BN with statistics over all ranks. C channels; the count may differ between ranks."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = [d for d in range(x.dim()) if d != 1]
        wide = torch.promote_types(x.dtype, torch.float32)
        # Local mean and variance are exact for large means; of their squares in float64 the
        # cancellation stays below the rounding of fp32 inputs, in fp32 it would not.
        var_C, mean_C = torch.var_mean(x.to(wide), dims, correction=0)
        var_C, mean_C = var_C.double(), mean_C.double()
        count = x.numel() // x.shape[1]
        square_C = var_C + mean_C.square()
        moments = torch.cat([mean_C * count, square_C * count, mean_C.new_tensor([float(count)])])
        dist.all_reduce(moments)
        total = moments[-1]
        mean_C, square_C = (moments[:-1] / total).chunk(2)
        var_C = (square_C - mean_C.square()).clamp_(min=0)
        mean_C, var_C = mean_C.to(wide), var_C.to(wide)
        ctx.save_for_backward(x, weight, mean_C, (var_C + eps).rsqrt(), total)
        y = F.batch_norm(x, mean_C, var_C, weight, bias, training=False, eps=eps)
        ctx.mark_non_differentiable(mean_C, var_C, total)
        return y, mean_C, var_C, total

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, *_: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean_C, invstd_C, total = ctx.saved_tensors
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        normal = (x.to(mean_C.dtype) - mean_C.view(shape)) * invstd_C.view(shape)
        grad = grad.to(mean_C.dtype)
        sums = torch.cat([grad.sum(dims), (grad * normal).sum(dims)])
        local_bias, local_weight = sums.clone().chunk(2)
        dist.all_reduce(sums)
        mean_grad, mean_grad_normal = (sums / total.to(sums.dtype)).chunk(2)
        scale = invstd_C if weight is None else invstd_C * weight
        grad_x = grad - mean_grad.view(shape) - normal * mean_grad_normal.view(shape)
        grad_x = (grad_x * scale.view(shape)).to(x.dtype)
        _, needs_weight, needs_bias, _ = ctx.needs_input_grad
        return (
            grad_x,
            local_weight if needs_weight else None,
            local_bias if needs_bias else None,
            None,
        )


class SyncBatchNorm(_BatchNorm):
    """``nn.BatchNorm`` for 1 to 3 dimensions with statistics over all ranks; same state dict.

    Alone, or in eval mode, it is plain BN. Gradients of weight and bias stay local, like those of
    every other parameter: the engine averages them.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """``[B,C,...]`` -> the same shape."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        self._check_input_dim(input)
        y, mean_C, var_C, total = _Normalise.apply(input, self.weight, self.bias, self.eps)
        # No rank may lack samples of a channel: the total is at least 2.
        track(self, mean_C, var_C * (total / (total - 1)).to(var_C.dtype))
        normalised: Tensor = y
        return normalised


@torch.no_grad()
def track(bn: _BatchNorm, mean_C: Tensor, variance_C: Tensor) -> None:
    """Move the running statistics as torch's BN does; the variance is the unbiased one."""
    if not bn.track_running_stats:
        return
    running_mean, running_var = bn.get_buffer("running_mean"), bn.get_buffer("running_var")
    tracked = bn.get_buffer("num_batches_tracked").add_(1)
    # torch: momentum None means a cumulative average
    share = 1 / float(tracked) if bn.momentum is None else bn.momentum
    running_mean.lerp_(mean_C.to(running_mean.dtype), share)
    running_var.lerp_(variance_C.to(running_var.dtype), share)


def adopt(new: _BatchNorm, old: _BatchNorm) -> None:
    """Give ``new`` the options, parameters, buffers and mode of ``old``."""
    for name in ("eps", "momentum", "affine", "track_running_stats", "training"):
        setattr(new, name, getattr(old, name))
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(new, name, getattr(old, name))


def convert_sync_bn(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm of torch below ``module`` in place; parameters, buffers are kept.

    Subclasses have a meaning of their own (split-BN) and stay.
    """
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and type(child) in PLAIN:
            synced = SyncBatchNorm(child.num_features)
            adopt(synced, child)
            setattr(module, name, synced)
        else:
            convert_sync_bn(child)
    return module
