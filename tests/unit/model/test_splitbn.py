"""Split-BN against golden vectors and one BatchNorm a split."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from sce_video.errors import UsageError
from sce_video.model.splitbn import SplitBatchNorm2d, convert_split_bn
from sce_video.model.syncbn import convert_sync_bn
from sce_video.model.trunks import build_trunk
from tests.conftest import GOLDEN

GOLD = json.loads((GOLDEN / "modules.json").read_text())


@pytest.mark.parametrize("name", ["split_bn_float64", "split_bn_float32"])
def test_golden(name: str) -> None:
    case = next(case for case in GOLD["cases"] if case["name"] == name)
    params, inputs, expected = case["params"], case["inputs"], case["expected"]
    dtype = getattr(torch, params["dtype"])
    tolerance = GOLD["tolerance"][params["dtype"]]
    plain = nn.BatchNorm2d(3, params["eps"], params["momentum"], dtype=dtype)
    for key in ("weight", "bias"):
        plain.get_parameter(key).data.copy_(torch.tensor(inputs[key], dtype=dtype))
    bn = SplitBatchNorm2d(plain, params["num_splits"])
    y = bn(torch.tensor(inputs["x"], dtype=dtype))
    assert y.dtype == dtype
    found = {"out": y, "running_mean": bn.running_mean, "running_var": bn.running_var}
    for key, value in found.items():
        assert value is not None
        gold = torch.tensor(expected[key], dtype=dtype)
        torch.testing.assert_close(value.detach(), gold, **tolerance)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_every_split_is_a_batchnorm_of_its_own(
    momentum: float | None, affine: bool, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(4, momentum=momentum, affine=affine, dtype=torch.float64)
    if affine:
        nn.init.uniform_(plain.weight)
        nn.init.uniform_(plain.bias)
    net = convert_split_bn(nn.Sequential(plain), 3)
    references = [nn.BatchNorm2d(4, momentum=momentum, affine=affine).double() for _ in range(3)]
    for reference in references:
        reference.load_state_dict(plain.state_dict())
    for step in range(3):
        x = torch.randn(6, 4, 5, 5, dtype=torch.float64) * (step + 1) + step
        x = x.to(memory_format=layout).requires_grad_()
        y = net(x)
        assert y.is_contiguous(memory_format=layout)
        expected = torch.empty_like(y)
        for split, reference in enumerate(references):
            expected[split::3] = reference(x[split::3])
        torch.testing.assert_close(y, expected)
        weight = torch.randn(y.shape, dtype=torch.float64)
        found = torch.autograd.grad((y * weight).sum(), x)
        torch.testing.assert_close(found, torch.autograd.grad((expected * weight).sum(), x))
    for key, value in net[0].named_buffers():  # type: ignore[index]
        mean = torch.stack([r.get_buffer(key).double() for r in references]).mean(0)
        torch.testing.assert_close(value.double(), mean)
    assert int(net[0].num_batches_tracked) == 3  # type: ignore[index]
    x = torch.randn(5, 4, 2, 2, dtype=torch.float64)
    single = nn.BatchNorm2d(4, affine=affine).double()
    single.load_state_dict(net[0].state_dict())  # type: ignore[index]
    torch.testing.assert_close(net.eval()(x), single.eval()(x))


def test_half_precision_is_normalised_in_single() -> None:
    x = torch.randn(8, 4, 3, 3) + 50
    bn = SplitBatchNorm2d(nn.BatchNorm2d(4), 4)
    y = bn(x.bfloat16())
    assert y.dtype == torch.bfloat16
    expected = SplitBatchNorm2d(nn.BatchNorm2d(4), 4)(x.bfloat16().float())
    torch.testing.assert_close(y.float(), expected, rtol=1e-2, atol=1e-2)


def test_only_two_dimensions_convert_and_sync_bn_leaves_them_alone() -> None:
    trunk = build_trunk("resnet18_small", 4)
    net = nn.Sequential(trunk, nn.BatchNorm1d(32), nn.BatchNorm3d(2))
    before = {key: value.data_ptr() for key, value in net.state_dict().items()}
    convert_sync_bn(convert_split_bn(net, 8))
    assert {key: value.data_ptr() for key, value in net.state_dict().items()} == before
    kinds = [type(module).__name__ for module in net.modules()]
    assert kinds.count("SplitBatchNorm2d") == 20
    assert kinds.count("SyncBatchNorm") == 2
    assert "BatchNorm2d" not in kinds


def test_a_batch_that_does_not_divide_is_refused() -> None:
    bn = SplitBatchNorm2d(nn.BatchNorm2d(4), 8)
    with pytest.raises(UsageError, match="a batch of 12 does not divide into 8 splits"):
        bn(torch.randn(12, 4, 2, 2))
    bn.eval()(torch.randn(12, 4, 2, 2))
