"""R(2+1)D on a multiple of eight channels: the same function, the same state dict."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from sce_video.model.padded import PaddedBatchNorm, PaddedConv3d
from sce_video.model.recompute import checkpoint_activations
from sce_video.model.syncbn import convert_sync_bn
from sce_video.model.trunks import build_trunk


def passes(trunk: nn.Module, pads: bool) -> dict[str, Tensor]:
    """Two forward and backward passes: output, gradients, state, output in eval mode."""
    found: dict[str, Tensor] = {}
    with patch("sce_video.model.padded.pads", lambda x: pads):
        for step in range(2):
            torch.manual_seed(step)
            x = torch.randn(2, 3, 4, 16, 16, dtype=torch.float64)
            x = x.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
            y = trunk(x)
            y.square().sum().backward()
            assert x.grad is not None
            found |= {f"y{step}": y, f"dx{step}": x.grad}
        found |= {name: value.clone() for name, value in trunk.state_dict().items()}
        found |= {f"d{name}": p.grad for name, p in trunk.named_parameters() if p.grad is not None}
        return {**found, "eval": trunk.eval()(x)}


def trunk() -> nn.Module:
    """Float64, with scales and running statistics that are not those of a fresh one."""
    torch.manual_seed(0)
    net = build_trunk("r2plus1d_18_small", 8).double()
    for p in net.parameters():
        if p.dim() == 1:
            nn.init.uniform_(p, 0.5, 1.5)
    return net


def recomputed(net: nn.Module) -> None:
    checkpoint_activations(net)


def compiled(net: Any) -> None:
    for network in (net.stem, net.layer2[0]):
        network.compile(fullgraph=True, dynamic=False, backend="aot_eager")


@pytest.mark.parametrize(
    "prepare",
    [convert_sync_bn, recomputed, pytest.param(compiled, marks=pytest.mark.slow)],
    ids=lambda f: f.__name__,
)
def test_zeros_beside_the_channels_change_nothing(prepare: Callable[[nn.Module], None]) -> None:
    net = trunk()
    expected = passes(copy.deepcopy(net), pads=False)
    prepare(net)
    found = passes(net, pads=True)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-9, atol=1e-9, msg=key)


def test_all_convolutions_see_a_multiple_of_eight() -> None:
    net, seen = trunk(), set()
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(lambda m, x, y: seen.add((y.shape[1], m.out_channels)))
    with patch("sce_video.model.padded.pads", lambda x: True):
        net(torch.randn(2, 3, 4, 16, 16, dtype=torch.float64))
    assert (8, 5) in seen  # the stem's
    assert not [shape for shape in seen if shape[0] % 8]


def test_of_the_published_network_four_widths_are_padded() -> None:
    with torch.device("meta"):
        net = build_trunk("r2plus1d_18")
    padded = [m for m in net.modules() if isinstance(m, PaddedConv3d)]
    assert {m.out_channels for m in padded if m.widens} == {45, 230, 460, 921}
    assert {m.in_channels for m in padded if not m.widens} == {45, 230, 460, 921}


def test_before_it_is_converted_a_trunk_asks_no_other_rank() -> None:
    net = trunk()
    norms = [m for m in net.modules() if isinstance(m, PaddedBatchNorm)]
    with (
        patch("torch.distributed.is_initialized", lambda: True),
        patch("torch.distributed.get_world_size", lambda group: 2),
    ):
        assert {norm.ranks for norm in norms} == {1}
        convert_sync_bn(net)
        assert {norm.ranks for norm in norms} == {2}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_in_eval_mode_it_can_be_traced() -> None:
    net, x = trunk().eval(), torch.randn(2, 3, 4, 16, 16, dtype=torch.float64)
    traced = torch.jit.trace(net, x)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(traced(x), net(x))
