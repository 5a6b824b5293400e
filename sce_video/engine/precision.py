"""Whether bf16 autocast may be trusted on this processor."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from sce_video.errors import UsageError

_TOLERANCE = 0.05  # relative; bf16 keeps 8 bits, right gradients are some 3e-3 off


def check_bf16(trunk: nn.Module, clip: Tensor) -> None:
    """Compare the weight gradients of every convolution under bf16 autocast with those in fp32.

    torch 2.14.1 on a CPU leaves the weight gradient of a temporal convolution, kernel (3,1,1), on
    clips of 2 frames uninitialised (an R(2+1)D-18 on 8 frames meets that), and the loss stays
    finite.

    Args:
        trunk: on the CPU, not yet sharded; left as it was.
        clip: ``[B,3,T,H,W]`` fp32 as in training; B may be small.

    Raises:
        UsageError: a convolution whose gradients are not what they are in fp32.
    """
    trunk = copy.deepcopy(trunk)
    seen: dict[str, tuple[nn.Module, torch.Size]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.setdefault(f"{module} on {list(inputs[0].shape)}", (module, inputs[0].shape))

    for module in trunk.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            module.register_forward_pre_hook(note)
    with torch.no_grad():
        trunk(clip)
    for what, (convolution, shape) in seen.items():
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        exact, ours = (_weight_gradient(convolution, x, bf16) for bf16 in (False, True))
        if not (exact - ours).norm() <= _TOLERANCE * exact.norm():  # NaN is no less
            raise UsageError(
                f"train.precision=bf16: torch {torch.__version__} computes wrong gradients on this "
                f"CPU for {what}; use train.precision=fp32"
            )


def _weight_gradient(convolution: Any, x: Tensor, bf16: bool) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y: Tensor = convolution(x)
    towards = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    [gradient] = torch.autograd.grad(y, [convolution.weight], towards.to(y.dtype))
    return gradient
