"""bf16 autocast on a CPU is only trusted where its gradients are right."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sce_video.engine.precision import check_bf16
from sce_video.errors import UsageError
from sce_video.model.trunks import build_trunk


def temporal(frames: int) -> tuple[nn.Module, Tensor]:
    convolution = nn.Conv3d(3, 16, (3, 1, 1), padding=(1, 0, 0), bias=False)
    return nn.Sequential(convolution), torch.zeros(2, 3, frames, 6, 6)


@pytest.mark.parametrize("frames", [4, 8])
def test_right_gradients_pass(frames: int) -> None:
    check_bf16(*temporal(frames))


@pytest.mark.skipif(
    not torch.__version__.startswith("2.14.1"), reason="a defect of torch 2.14.1 on CPUs"
)
def test_short_clips_are_refused_where_torch_has_the_defect() -> None:
    with pytest.raises(UsageError, match=r"kernel_size=\(3, 1, 1\).* on \[2, 3, 2, 6, 6\]"):
        check_bf16(*temporal(2))
    trunk = build_trunk("r2plus1d_18", width=8)
    with pytest.raises(UsageError, match="use train"):
        check_bf16(trunk, torch.zeros(2, 3, 8, 32, 32))


class Wrong(nn.Conv3d):
    """Its weight gradient is off by a factor under autocast, or not a number."""

    factor = 1.2

    def forward(self, input: Tensor) -> Tensor:
        y = super().forward(input)
        if torch.is_autocast_enabled("cpu"):
            y.register_hook(lambda gradient: gradient * self.factor)  # type: ignore[no-untyped-call]
        return y


@pytest.mark.parametrize("factor", [1.2, float("nan"), float("inf")])
def test_wrong_gradients_are_refused(factor: float) -> None:
    convolution = Wrong(3, 4, 3)
    convolution.factor = factor
    with pytest.raises(UsageError, match="Wrong"):
        check_bf16(nn.Sequential(convolution), torch.zeros(2, 3, 4, 8, 8))


def test_the_trunk_is_left_as_it_was() -> None:
    trunk = build_trunk("r2plus1d_18_small", width=4)
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    check_bf16(trunk, torch.rand(2, 3, 16, 16, 16))
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(m._forward_pre_hooks for m in trunk.modules())
