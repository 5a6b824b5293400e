"""SyncBN on two gloo ranks equals BatchNorm on the whole batch."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from sce_video.model.syncbn import SyncBatchNorm, convert_sync_bn

SIZES = [3, 5]  # samples of rank 0 and 1: unequal on purpose


def data(shift: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sum(SIZES), 4, 2, 3, 3, generator=generator) * 2 + shift
    return x, torch.randn(x.shape, generator=generator)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.BatchNorm3d(4)
    nn.init.uniform_(first.weight)
    return nn.Sequential(first, nn.Conv3d(4, 4, 1), nn.BatchNorm3d(4, affine=False))


def worker(rank: int, port: int, shift: float, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    net = convert_sync_bn(network())
    x, weight = (torch.split(t, SIZES)[rank] for t in data(shift))
    x = x.clone().requires_grad_()
    y = net(x)
    (y * weight).sum().backward()
    gradients = {}
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad)
        gradients[name] = parameter.grad
    torch.save(
        {"y": y.detach(), "x": x.grad, "params": gradients, "state": net.state_dict()},
        Path(folder) / f"{rank}.pt",
    )
    dist.destroy_process_group()


@pytest.mark.parametrize("shift", [0.0, 3000.0])
def test_two_ranks_equal_the_whole_batch(shift: float, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(worker, (port, shift, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    net = network().double()
    x, weight = (t.double() for t in data(shift))
    x.requires_grad_()
    y = net(x)
    (y * weight).sum().backward()
    # Inputs near 3000 carry 2e-4 of rounding in fp32 before any layer.
    atol = 1e-5 if shift == 0 else 5e-3
    torch.testing.assert_close(torch.cat([p["y"] for p in parts]).double(), y.detach(), rtol=1e-4, atol=atol)
    assert x.grad is not None
    torch.testing.assert_close(torch.cat([p["x"] for p in parts]).double(), x.grad, rtol=1e-4, atol=atol)
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        expected = parameter.grad
        scale = float(expected.abs().max()) + 1
        error = float((parts[0]["params"][name].double() - expected).abs().max())
        assert error < (1e-4 if shift == 0 else 2e-3) * scale, name
    for name, value in net.state_dict().items():
        torch.testing.assert_close(parts[0]["state"][name].double(), value.double(), rtol=1e-4, atol=1e-4)


def test_state_dict_is_batchnorms() -> None:
    plain = network()
    synced = convert_sync_bn(network())
    assert list(plain.state_dict()) == list(synced.state_dict())
    assert isinstance(synced[0], SyncBatchNorm)  # type: ignore[index]
    x, _ = data(0.0)
    torch.testing.assert_close(synced(x), plain(x), rtol=0, atol=0)
