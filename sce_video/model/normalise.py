"""The arithmetic of BN over ranks: one all-reduce of ``2C + 1`` numbers forward, one of 2C back.

Shapes: C channels, x ``[B,C,...]`` of 2 to 5 dimensions; B may differ between ranks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F


def uses_kernels(x: Tensor) -> bool:
    """Whether torch's fused BN kernels compute: on CUDA, but for code that is being compiled.

    The plain form is for CPUs and compilers, which fuse it with the ReLU behind it.
    """
    return x.is_cuda and not torch.compiler.is_compiling()


def normalise(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    group: dist.ProcessGroup | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """BN over the batches of a group of ranks; gradients of weight and bias are this rank's.

    Args:
        x: fp32, float64, or less, of which statistics are in fp32.
        weight: ``[C]``; None = 1.
        bias: ``[C]``; None = 0.
        eps: is added to the variance.
        group: of this process; None = all ranks.

    Returns:
        ``x`` normalised. The group's mean and biased variance ``[C]``, and the number of values of
        a channel (scalar, float64); without gradient.
    """
    found: tuple[Tensor, Tensor, Tensor, Tensor] = _Normalise.apply(x, weight, bias, eps, group)
    return found


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ctx.kernels, ctx.group = uses_kernels(x), group
        wide = torch.promote_types(x.dtype, torch.float32)
        # Local mean and variance are exact for large means; of their squares in float64 the
        # cancellation stays below the rounding of fp32 inputs, in fp32 it would not.
        if ctx.kernels:
            x = x.contiguous(memory_format=_layout(x))
            mean_C, invstd_C = torch.batch_norm_stats(x, eps)
            mean_C, var_C = mean_C.double(), invstd_C.double().pow(-2) - eps
        else:
            var_C, mean_C = torch.var_mean(x.to(wide), _others(x), correction=0)
            mean_C, var_C = mean_C.double(), var_C.double()
        square_C = var_C + mean_C.square()
        moments = torch.cat([mean_C, square_C, mean_C.new_ones(1)]) * (x.numel() // x.shape[1])
        dist.all_reduce(moments, group=group)
        total = moments[-1]
        mean_C, square_C = (moments[:-1] / total).chunk(2)
        var_C = (square_C - mean_C.square()).clamp(min=0)
        mean_C, var_C = mean_C.to(wide), var_C.to(wide)
        invstd_C = (var_C + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean_C, invstd_C, total)
        ctx.mark_non_differentiable(mean_C, var_C, total)
        if ctx.kernels:
            y = torch.batch_norm_elemt(x, weight, bias, mean_C, invstd_C, eps)
        else:
            y = F.batch_norm(x, mean_C, var_C, weight, bias, training=False, eps=eps)
        return y, mean_C, var_C, total

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean_C, invstd_C, total = ctx.saved_tensors
        _, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        if ctx.kernels:
            grad = grad.contiguous(memory_format=_layout(x))
            sum_C, sum_normal_C, local_weight, local_bias = torch.batch_norm_backward_reduce(
                grad, x, mean_C, invstd_C, weight, True, needs_weight, needs_bias
            )
            sums = torch.cat([sum_C, sum_normal_C])
        else:
            shape = [1, -1] + [1] * (x.dim() - 2)
            normal = (x.to(mean_C.dtype) - mean_C.view(shape)) * invstd_C.view(shape)
            grad = grad.to(mean_C.dtype)
            sums = torch.cat([grad.sum(_others(x)), (grad * normal).sum(_others(x))])
            local_bias, local_weight = sums.clone().chunk(2)
        dist.all_reduce(sums, group=ctx.group)
        mean_grad, mean_grad_normal = (sums / total.to(sums.dtype)).chunk(2)
        if ctx.kernels:
            one = torch.ones(1, dtype=torch.int32, device=x.device)  # the count: divided already
            grad_x = torch.batch_norm_backward_elemt(
                grad, x, mean_C, invstd_C, weight, mean_grad, mean_grad_normal, one
            )
        else:
            scale = invstd_C if weight is None else invstd_C * weight
            grad_x = grad - mean_grad.view(shape) - normal * mean_grad_normal.view(shape)
            grad_x = (grad_x * scale.view(shape)).to(x.dtype)
        return (
            grad_x,
            local_weight if needs_weight else None,
            local_bias if needs_bias else None,
            None,
            None,
        )


def _others(x: Tensor) -> list[int]:
    """The dimensions but that of channels."""
    return [d for d in range(x.dim()) if d != 1]


def _layout(x: Tensor) -> torch.memory_format:
    """Of those that the kernels know: channels last, where x has it."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    return last if last and x.is_contiguous(memory_format=last) else torch.contiguous_format
