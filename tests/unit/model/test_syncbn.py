"""SyncBN on one rank, and its arithmetic's layouts; on several ranks see tests/dist."""

from __future__ import annotations

import copy
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from sce_video.config.load import load_config
from sce_video.config.tasks import PretrainConfig
from sce_video.errors import UsageError
from sce_video.model.syncbn import SyncBatchNorm, convert_sync_bn, rank_group
from sce_video.stream.order import schedule
from tests.batch_norm import Case, data, layer

LAST = torch.channels_last_3d


def gradients(net: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, gradients of input and parameters, state after a step and in eval mode."""
    x.grad, y = None, net(x)
    towards = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    y.backward(towards.to(x.dtype).contiguous(memory_format=LAST))
    assert x.grad is not None
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    return [y, x.grad, *grads, *net.state_dict().values(), net.eval()(x)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST], ids=["contiguous", "last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(
    "shape", [(2, 45, 3, 5, 6), (1, 4, 3, 5, 6), (3, 4, 1, 5, 6), (3, 4, 3, 1, 1), (4, 1, 1, 2, 1)]
)
def test_frames_as_rows_are_the_same_bits_in_the_same_layout(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = torch.randn(shape).to(dtype).contiguous(memory_format=layout)
    plain: Any = nn.BatchNorm3d(shape[1]).to(torch.promote_types(dtype, torch.float32))
    nn.init.uniform_(plain.weight)
    net = next(convert_sync_bn(nn.Sequential(copy.deepcopy(plain))).children())
    with patch.object(nn.functional, "batch_norm", wraps=nn.functional.batch_norm) as seen:
        found = gradients(net, x.requires_grad_())
    inputs = [call.args[0] for call in seen.call_args_list]
    assert [(i.dim(), i.data_ptr()) for i in inputs] == [(4 + (len(x) == 1), x.data_ptr())] * 2
    for mine, its in zip(found, gradients(plain, x), strict=True):
        assert torch.equal(mine, its)
        assert mine.stride() == its.stride()


def test_what_follows_in_place_copies_no_gradient() -> None:
    net = convert_sync_bn(nn.Sequential(nn.BatchNorm3d(4), nn.ReLU(inplace=True)))
    x = torch.randn(2, 4, 3, 5, 6).contiguous(memory_format=LAST).requires_grad_()
    y = net(x)
    chain, node = [], y.grad_fn
    while node:
        chain.append(node.name())
        node = node.next_functions[0][0] if node.next_functions else None
    assert not any("CopySlices" in name for name in chain), chain
    assert chain[0] == "ReluBackward0"
    assert chain[2] == "NativeBatchNormBackward0"


def test_alone_it_is_batchnorm_and_nothing_else_is_converted() -> None:
    case = Case(3, dtype=torch.float32)
    plain, synced = layer(case), convert_sync_bn(layer(case))
    assert list(plain.state_dict()) == list(synced.state_dict())
    x, _ = data(case, 0)
    torch.testing.assert_close(synced(x), plain(x), rtol=0, atol=0)
    frozen = nn.Sequential(nn.BatchNorm2d(2, eps=1e-3), nn.GroupNorm(1, 2)).eval()
    before = frozen.state_dict()
    convert_sync_bn(frozen)
    assert [type(m) for m in frozen] == [SyncBatchNorm, nn.GroupNorm]
    assert not frozen[0].training
    assert frozen[0].eps == 1e-3
    assert all(value.data_ptr() == before[k].data_ptr() for k, value in frozen.state_dict().items())
    assert rank_group(2) is None  # no ranks


def test_groups_divide_the_ranks() -> None:
    config = load_config("demo.yaml", ["model.bn_group=4"])
    assert isinstance(config, PretrainConfig)
    assert schedule(config, 0, 8)["ranks"] == 8
    with pytest.raises(UsageError, match=r"model\.bn_group 4 does not divide 6 ranks"):
        schedule(config, 0, 6)


def test_a_frozen_trunk_has_no_groups() -> None:
    with pytest.raises(UsageError, match=r"model\.bn_group: a frozen trunk"):
        load_config("linear/k400_r2plus1d_18.yaml", ["model.bn_group=4"])
