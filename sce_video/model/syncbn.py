"""Batch normalisation over the batches of all ranks, or of groups of them, on any device.

torch's own SyncBatchNorm refuses CPU tensors, and gathers from every rank; this one all-reduces
``2C + 1`` numbers a layer.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sce_video.model.normalise import normalise

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SyncBatchNorm(_BatchNorm):
    """``nn.BatchNorm`` for 1 to 3 dimensions with statistics over ranks; same state dict.

    Alone, or in eval mode, it is plain BN. Gradients of weight and bias stay local, like those of
    every other parameter: the engine averages them.
    """

    shares = True  # False: alone among any number of ranks
    group: dist.ProcessGroup | None = None  # of the ranks that share statistics; None = all

    def __deepcopy__(self, memo: dict[int, Any]) -> SyncBatchNorm:
        memo[id(self.group)] = self.group  # is not copied, nor can it be
        new = memo[id(self)] = type(self).__new__(type(self))
        new.__dict__ = copy.deepcopy(self.__dict__, memo)
        return new

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """``[B,C,...]`` -> the same shape."""
        # torch's BN kernels for CUDA know channels last in four dimensions only; of five they make
        # an fp32 copy first. (Of one sample a view loses the stride by which convolutions know the
        # layout; compilers write kernels of their own.)
        if input.dim() == 5 and len(input) > 1 and not torch.compiler.is_compiling():
            y = self.normalise(input.flatten(2, 3))
            frames: Tensor = _Frames.apply(y, input.shape) if self.training else y.view(input.shape)
            return frames
        return self.normalise(input)

    def normalise(self, x: Tensor) -> Tensor:
        """``[B,C,...]`` -> the same shape, by kernels that know four dimensions best."""
        if self.ranks == 1:
            return super().forward(x)
        self._check_input_dim(x)
        y, mean_C, var_C = self.over_ranks(x, self.weight, self.bias)
        track(self, mean_C, var_C)
        return y

    @property
    def ranks(self) -> int:
        """That share statistics now: 1 in eval mode."""
        together = self.training and self.shares and dist.is_initialized()
        return dist.get_world_size(self.group) if together else 1

    def over_ranks(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``x`` normalised; mean and unbiased variance of all these ranks, ``[C]``."""
        y, mean_C, var_C, total = normalise(x, weight, bias, self.eps, self.group)
        # No rank may lack samples of a channel: the total is at least 2.
        return y, mean_C, var_C * (total / (total - 1)).to(var_C.dtype)


class _Frames(torch.autograd.Function):
    """``[B,C,TH,W]`` -> ``[B,C,T,H,W]``: a view of which autograd does not know.

    Of one that it knows an operation in place, as ReLU, copies the gradient three times. Only for
    training: ``torch.jit.trace`` does not take it.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, shape: torch.Size) -> Tensor:
        return y.view(shape).detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.flatten(2, 3), None


@torch.no_grad()
def track(bn: _BatchNorm, mean_C: Tensor, variance_C: Tensor) -> None:
    """Move the running statistics as torch's BN does; the variance is the unbiased one."""
    if not bn.track_running_stats:
        return
    running_mean, running_var = bn.get_buffer("running_mean"), bn.get_buffer("running_var")
    tracked = bn.get_buffer("num_batches_tracked").add_(1)
    share: Any = bn.momentum
    if share is None:  # torch: a cumulative average
        share = tracked.to(running_mean.dtype).reciprocal()
    running_mean.lerp_(mean_C.to(running_mean.dtype), share)
    running_var.lerp_(variance_C.to(running_var.dtype), share)


def adopt(new: _BatchNorm, old: _BatchNorm) -> None:
    """Give ``new`` the options, parameters, buffers and mode of ``old``."""
    for name in ("eps", "momentum", "affine", "track_running_stats", "training"):
        setattr(new, name, getattr(old, name))
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(new, name, getattr(old, name))


def rank_group(ranks: int | None) -> dist.ProcessGroup | None:
    """The group of ``ranks`` ranks that this one is in: 0 to ``ranks - 1``, and so on.

    None for None (all of them), and where no process group is up. A collective call.
    """
    if ranks is None or not dist.is_initialized():
        return None
    group: dist.ProcessGroup = dist.new_subgroups(ranks)[0]
    return group


def convert_sync_bn(module: nn.Module, group: dist.ProcessGroup | None = None) -> nn.Module:
    """Replace every BatchNorm of torch below ``module`` in place; parameters, buffers are kept.

    Subclasses have a meaning of their own (split-BN) and stay.

    Args:
        module: of networks.
        group: of :func:`rank_group`: the ranks that share statistics; None = all.
    """
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and type(child) in PLAIN:
            synced = SyncBatchNorm(child.num_features)
            adopt(synced, child)
            setattr(module, name, synced)
            child = synced
        if isinstance(child, SyncBatchNorm):
            child.shares, child.group = True, group
        else:
            convert_sync_bn(child, group)
    return module


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Give all ranks the mean of their groups' running statistics; a collective call.

    What is saved and evaluated is then the same on every rank.
    """
    norms = [m for m in module.modules() if isinstance(m, SyncBatchNorm) and m.track_running_stats]
    buffers = [m.get_buffer(name) for m in norms for name in ("running_mean", "running_var")]
    everyone = torch.cat(buffers)
    dist.all_reduce(everyone)
    everyone /= dist.get_world_size()
    torch._foreach_copy_(buffers, torch.split(everyone, [len(buffer) for buffer in buffers]))
