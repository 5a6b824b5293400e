"""torch's BN kernels for CUDA, for CPUs: in float64, and refusing what those take wrongly."""

from __future__ import annotations

import torch
from torch import Tensor, library

_HELD: list[library.Library] = []  # what is registered is gone with its library


def kernels_for_cpus() -> None:
    """Give CPUs, as long as the process lives, what torch has for CUDA alone."""
    kernels = library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for kernel in (
        batch_norm_stats,
        batch_norm_elemt,
        batch_norm_backward_reduce,
        batch_norm_backward_elemt,
    ):
        kernels.impl(kernel.__name__, kernel, "CPU")  # type: ignore[no-untyped-call]
    _HELD.append(kernels)


def batch_norm_stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and ``rsqrt(var + eps)``."""
    _check(x)
    var, mean = torch.var_mean(x.double(), _others(x), correction=0)
    dtype = torch.promote_types(x.dtype, torch.float32)
    return mean.to(dtype), (var + eps).rsqrt().to(dtype)


def batch_norm_elemt(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    eps: float,
) -> Tensor:
    """The output; it does not look at ``eps``."""
    _check(x)
    y = (x - _wide(mean, x)) * _wide(invstd, x)
    y = y if weight is None else y * _wide(weight, x)
    return torch.empty_like(x).copy_(y if bias is None else y + _wide(bias, x))


def batch_norm_backward_reduce(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    input_g: bool,
    weight_g: bool,
    bias_g: bool,
) -> tuple[Tensor, ...]:
    """Sums of ``dy`` and of ``dy (x - mean)``, gradients of weight and bias; what is asked for."""
    _check(grad, x)
    assert weight is not None or not (weight_g or bias_g)
    sum_dy = grad.double().sum(_others(x))
    sum_dy_xmu = (grad.double() * (x - _wide(mean, x))).sum(_others(x))
    found = [sum_dy, sum_dy_xmu, sum_dy_xmu * invstd, sum_dy]
    asked = [input_g, input_g, weight_g, bias_g]
    pairs = zip(found, asked, strict=True)
    return tuple(t.to(mean.dtype, copy=True) if wanted else t[:0] for t, wanted in pairs)


def batch_norm_backward_elemt(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    sum_dy: Tensor,
    sum_dy_xmu: Tensor,
    count: Tensor,
) -> Tensor:
    """The gradient of the input; ``count``: of each rank."""
    _check(grad, x)
    assert count.dtype == torch.int32
    assert sum_dy.dtype == sum_dy_xmu.dtype == mean.dtype == invstd.dtype
    total = count.sum()
    normal_by_std = (x - _wide(mean, x)) * _wide(invstd, x).square()
    dx = grad - _wide(sum_dy, x) / total - normal_by_std * _wide(sum_dy_xmu, x) / total
    dx = dx * _wide(invstd, x)
    return torch.empty_like(x).copy_(dx if weight is None else dx * _wide(weight, x))


def _check(*tensors: Tensor) -> None:
    """The kernels read memory as it lies: dense, in one layout and dtype."""
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensors[0].dim())
    layouts = [torch.contiguous_format, layout or torch.contiguous_format]
    assert any(all(t.is_contiguous(memory_format=f) for t in tensors) for f in layouts)
    assert len({t.dtype for t in tensors}) == 1


def _others(x: Tensor) -> list[int]:
    """The dimensions but that of channels."""
    return [d for d in range(x.dim()) if d != 1]


def _wide(values_C: Tensor, like: Tensor) -> Tensor:
    """One number a channel, in float64 and the shape of ``like``'s dimensions."""
    return values_C.double().view(1, -1, *[1] * (like.dim() - 2))
