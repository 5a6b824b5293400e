"""SyncBN on two and three gloo ranks equals BatchNorm on the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from sce_video.model.syncbn import SyncBatchNorm, convert_sync_bn

SIZES = {2: [3, 5], 3: [2, 5, 1]}  # samples of each rank: unequal on purpose
STEPS = 3


class Case(NamedTuple):
    """A BN layer and its inputs: mean and standard deviation of a channel."""

    dims: int
    mean: float = 0.5
    std: float = 2.0
    dtype: torch.dtype = torch.float64
    momentum: float | None = 0.1
    affine: bool = True
    bias: bool = True
    track: bool = True
    last: bool = False  # channels_last


CASES = [
    *(Case(dims) for dims in (0, 1, 2, 3)),
    *(Case(dims, last=True) for dims in (2, 3)),
    Case(3, momentum=None),
    Case(0, affine=False),
    Case(2, bias=False),
    Case(3, track=False),
    *(Case(dims, dtype=torch.float32, last=last) for dims in (2, 3) for last in (True, False)),
    # Far from zero: fp32 sums of squares would cancel (1e8 against 1e-2).
    *(Case(2, 1e4, std, torch.float32, last=last) for std in (1.0, 0.1) for last in (True, False)),
    Case(3, 1e4, 0.1, torch.float32, last=True),
]


def layer(case: Case) -> nn.Module:
    kind = [nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d][case.dims]
    torch.manual_seed(0)
    bn = kind(
        4,
        momentum=case.momentum,
        affine=case.affine,
        track_running_stats=case.track,
        dtype=case.dtype,
    )
    if not case.bias:  # as ``bias=False`` makes it, which older versions of torch have not
        bn.register_parameter("bias", None)
    for parameter in bn.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return nn.Sequential(bn)


def data(case: Case, step: int) -> tuple[Tensor, Tensor]:
    """The whole batch and the gradient of its output."""
    generator = torch.Generator().manual_seed(step)
    shape = (8, 4, *(2, 3, 4)[: case.dims])
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * case.std + case.mean
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.to(case.dtype), weight.to(case.dtype)


def run(net: nn.Module, case: Case, part: slice, dtype: torch.dtype) -> dict[str, Any]:
    """Train mode for some steps, then eval: outputs, gradients, state; in ``net``'s dtype."""
    found: dict[str, Any] = {"y": [], "dx": []}
    for step in range(STEPS):
        x, weight = (t[part].to(dtype, copy=True) for t in data(case, step))
        if case.last:
            layout = torch.channels_last if case.dims == 2 else torch.channels_last_3d
            x = x.contiguous(memory_format=layout)
        x.requires_grad_()
        y = net(x)
        (y * weight).sum().backward()
        assert x.grad is not None
        found["y"].append(y.detach())
        found["dx"].append(x.grad)
    found["params"] = {key: p.grad for key, p in net.named_parameters()}
    found["state"] = dict(net.state_dict())
    found["eval"] = net.eval()(data(case, 0)[0].to(dtype)).detach()
    return found


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    for ranks in SIZES:
        if rank >= ranks:
            continue
        meet = f"file://{folder}/{ranks}"  # a port may be taken meanwhile
        dist.init_process_group("gloo", meet, rank=rank, world_size=ranks)
        first = sum(SIZES[ranks][:rank])
        part = slice(first, first + SIZES[ranks][rank])
        found = []
        for case in CASES:
            found.append(run(convert_sync_bn(layer(case)), case, part, case.dtype))
            for grad in found[-1]["params"].values():
                dist.all_reduce(grad)
        torch.save(found, Path(folder) / f"{rank}of{ranks}.pt")
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Any]]:
    """Number of ranks -> results by rank and case; one pool for all."""
    folder = tmp_path_factory.mktemp("syncbn")
    spawn(worker, (str(folder),), nprocs=max(SIZES))  # type: ignore[no-untyped-call]
    return {
        ranks: [torch.load(folder / f"{rank}of{ranks}.pt") for rank in range(ranks)]
        for ranks in SIZES
    }


@pytest.mark.parametrize("ranks", SIZES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_ranks_equal_the_whole_batch(
    case: Case, ranks: int, everything: dict[int, list[Any]]
) -> None:
    parts = [result[CASES.index(case)] for result in everything[ranks]]
    exact = run(layer(case).double(), case, slice(None), torch.float64)
    # Statistics are fp32 numbers: a mean far from zero is off by its last place, sums by more.
    limit = 1e-10 if case.dtype == torch.float64 else 1e-5 + 3 * 2**-23 * case.mean / case.std

    def check(found: Tensor, expected: Tensor) -> None:
        error = (found.double() - expected.double()).abs().max()
        assert error < limit * expected.abs().max()

    for step in range(STEPS):
        for key in ("y", "dx"):
            whole = torch.cat([part[key][step] for part in parts])
            check(whole, exact[key][step])
    for part in parts:
        assert part["params"].keys() == exact["params"].keys()
        assert part["state"].keys() == exact["state"].keys()
        for key, gradient in part["params"].items():
            check(gradient, exact["params"][key])
        for key, value in part["state"].items():
            check(value, exact["state"][key])
        if case.track:
            assert int(part["state"]["0.num_batches_tracked"]) == STEPS
        check(part["eval"], exact["eval"])


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
