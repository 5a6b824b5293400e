"""bf16 autocast on a CPU is only trusted where its gradients are right."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor, nn

from sce_video.engine.precision import check_bf16
from sce_video.errors import UsageError
from sce_video.model.trunks import build_trunk


def torch_is_wrong(convolution: nn.Conv3d, shape: tuple[int, ...]) -> bool:
    """Whether torch on this processor gets the weight gradient wrong in bf16: some versions do."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    gradients: list[Tensor] = []
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = convolution(x)
        towards = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        gradients += torch.autograd.grad(y, [convolution.weight], towards.to(y.dtype))
    exact, ours = gradients
    return not (exact - ours).norm() <= 0.05 * exact.norm()  # NaN is no less


@pytest.mark.parametrize("frames", [2, 4, 8])
def test_a_convolution_is_refused_where_torch_gets_it_wrong(frames: int) -> None:
    """On some processors torch 2.14.1 leaves gradients of clips of 2 frames uninitialised."""
    convolution = nn.Conv3d(3, 16, (3, 1, 1), padding=(1, 0, 0), bias=False)
    trunk, clip = nn.Sequential(convolution), torch.zeros(2, 3, frames, 6, 6)
    if torch_is_wrong(convolution, tuple(clip.shape)):
        named = rf"kernel_size=\(3, 1, 1\).* on \[2, 3, {frames}, 6, 6\]"
        with pytest.raises(UsageError, match=named):
            check_bf16(trunk, clip)
    else:
        check_bf16(trunk, clip)


class Right(nn.Conv3d):
    """Its weight gradient is the one of fp32, whatever torch makes of bf16."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return super().forward(input)


class Wrong(Right):
    """Its weight gradient is off by a factor under autocast, or not a number."""

    factor = 1.2

    def forward(self, input: Tensor) -> Tensor:
        y = super().forward(input)
        if torch.is_autocast_enabled("cpu"):
            y.register_hook(lambda gradient: gradient * self.factor)  # type: ignore[no-untyped-call]
        return y


def test_right_gradients_pass() -> None:
    check_bf16(nn.Sequential(Right(3, 4, 3)), torch.zeros(2, 3, 4, 8, 8))


@pytest.mark.parametrize("factor", [1.2, float("nan"), float("inf")])
def test_wrong_gradients_are_refused(factor: float) -> None:
    convolution = Wrong(3, 4, 3)
    convolution.factor = factor
    with pytest.raises(UsageError, match="Wrong"):
        check_bf16(nn.Sequential(convolution), torch.zeros(2, 3, 4, 8, 8))


def test_one_wrong_convolution_refuses_a_whole_trunk() -> None:
    trunk = build_trunk("r2plus1d_18_small", width=4)
    convolutions = [m for m in trunk.modules() if isinstance(m, nn.Conv3d)]
    for number, convolution in enumerate(convolutions):
        convolution.__class__ = Wrong if number == len(convolutions) - 1 else Right
    clip = torch.rand(2, 3, 8, 16, 16)
    with pytest.raises(UsageError, match=r"precision=bf16: .* for Wrong\(.*; use train\.precision"):
        check_bf16(trunk, clip)
    convolutions[-1].__class__ = Right
    check_bf16(trunk, clip)


def test_the_trunk_is_left_as_it_was() -> None:
    trunk = build_trunk("r2plus1d_18_small", width=4)
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    with contextlib.suppress(UsageError):  # where torch gets one of its convolutions wrong
        check_bf16(trunk, torch.rand(2, 3, 8, 16, 16))
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(m._forward_pre_hooks for m in trunk.modules())
