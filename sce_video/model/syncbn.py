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


class _Normalise(torch.autograd.Function):
    """BN with statistics over all ranks. C channels; the count may differ between ranks."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = [d for d in range(x.dim()) if d != 1]
        # Local mean and variance are exact for large means; combining them in float64 (Chan)
        # loses nothing, where fp32 sums of squares would cancel.
        var_C, mean_C = torch.var_mean(x.float(), dims, correction=0)
        var_C, mean_C = var_C.double(), mean_C.double()
        count = x.numel() // x.shape[1]
        square_C = var_C + mean_C.square()
        moments = torch.cat([mean_C * count, square_C * count, mean_C.new_tensor([float(count)])])
        dist.all_reduce(moments)
        total = moments[-1]
        mean_C, square_C = (moments[:-1] / total).chunk(2)
        var_C = (square_C - mean_C.square()).clamp_(min=0)
        mean_C, var_C = mean_C.float(), var_C.float()
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
        normal = (x.float() - mean_C.view(shape)) * invstd_C.view(shape)
        sums = torch.cat([grad.float().sum(dims), (grad.float() * normal).sum(dims)])
        local_bias, local_weight = sums.clone().chunk(2)
        dist.all_reduce(sums)
        mean_grad, mean_grad_normal = (sums / total.float()).chunk(2)
        scale = invstd_C if weight is None else invstd_C * weight
        grad_x = grad - mean_grad.view(shape) - normal * mean_grad_normal.view(shape)
        grad_x = (grad_x * scale.view(shape)).to(x.dtype)
        if weight is None:
            return grad_x, None, None, None
        return grad_x, local_weight, local_bias, None


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
        if self.running_mean is not None and self.running_var is not None:
            # torch: momentum None means a cumulative average
            count = 1.0 + float(self.num_batches_tracked or 0)
            share = 1 / count if self.momentum is None else self.momentum
            with torch.no_grad():
                unbiased_C = var_C * (total / (total - 1)).float()
                self.running_mean.lerp_(mean_C, share)
                self.running_var.lerp_(unbiased_C, share)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        normalised: Tensor = y
        return normalised


def convert_sync_bn(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm below ``module`` in place; parameters and buffers are kept."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
            synced = SyncBatchNorm(
                child.num_features,
                child.eps,
                child.momentum,
                child.affine,
                child.track_running_stats,
            )
            synced.weight, synced.bias = child.weight, child.bias
            for buffer in ("running_mean", "running_var", "num_batches_tracked"):
                setattr(synced, buffer, getattr(child, buffer))
            setattr(module, name, synced)
        else:
            convert_sync_bn(child)
    return module
