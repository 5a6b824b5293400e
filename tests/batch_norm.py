"""BN over ranks on made batches, and what it must equal; for ranks on CPUs and on GPUs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sce_video.model.syncbn import convert_sync_bn, rank_group

SIZES = {2: [3, 5], 3: [2, 5, 1], 4: [3, 1, 2, 2]}  # samples of each rank: unequal on purpose
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
    Case(3, affine=False, last=True),
    Case(2, bias=False),
    Case(3, track=False),
    *(Case(dims, dtype=torch.float32, last=last) for dims in (2, 3) for last in (True, False)),
    Case(3, std=0.0, dtype=torch.float32),
    *(Case(dims, dtype=torch.bfloat16, last=dims > 1) for dims in (0, 2, 3)),
    # Far from zero: fp32 sums of squares would cancel (1e8 against 1e-2).
    *(Case(2, 1e4, std, torch.float32, last=last) for std in (1.0, 0.1) for last in (True, False)),
    Case(3, 1e4, 0.1, torch.float32, last=True),
]


def layer(case: Case) -> nn.Module:
    """BN of four channels in a ``Sequential``; parameters of an input in bf16 are fp32."""
    kind = [nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d][case.dims]
    torch.manual_seed(0)
    bn = kind(
        4,
        momentum=case.momentum,
        affine=case.affine,
        track_running_stats=case.track,
        dtype=torch.promote_types(case.dtype, torch.float32),
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


def run(
    net: nn.Module, case: Case, part: slice, dtype: torch.dtype, device: str = "cpu"
) -> dict[str, Any]:
    """Train mode for some steps, then eval: outputs, gradients, state; on the CPU."""
    found: dict[str, Any] = {"y": [], "dx": []}
    net.to(device)
    for step in range(STEPS):
        x, weight = (t[part].to(device, dtype, copy=True) for t in data(case, step))
        if case.last:
            layout = torch.channels_last if case.dims == 2 else torch.channels_last_3d
            x = x.contiguous(memory_format=layout)
        x.requires_grad_()
        y = net(x)
        (y * weight).sum().backward()
        assert x.grad is not None
        assert len({_strides(t) for t in (x, y, x.grad)}) == 1
        found["y"].append(y.detach().cpu())
        found["dx"].append(x.grad.cpu())
    found["params"] = {key: p.grad for key, p in net.named_parameters()}
    found["state"] = {key: value.cpu() for key, value in net.state_dict().items()}
    found["eval"] = net.eval()(data(case, 0)[0].to(device, dtype)).detach().cpu()
    return found


def _strides(x: Tensor) -> tuple[int, ...]:
    """Those that count."""
    return tuple(stride for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1)


def run_rank(folder: str, group: int | None = None, device: str = "cpu") -> None:
    """All cases on this rank, into a file of ``folder``; gradients summed over the BN group.

    The process group must be up.
    """
    rank, ranks = dist.get_rank(), dist.get_world_size()
    starts = [sum(SIZES[ranks][:r]) for r in range(ranks + 1)]
    pg, found = rank_group(group), []
    for case in CASES:
        net = convert_sync_bn(layer(case), pg)
        found.append(run(net, case, slice(*starts[rank : rank + 2]), case.dtype, device))
        params = found[-1]["params"]
        for key, grad in params.items():
            dist.all_reduce(grad, group=pg)
            params[key] = grad.cpu()
    torch.save(found, Path(folder) / f"{rank}.pt")


def check_ranks(folder: str, ranks: int, case: Case, group: int | None = None) -> None:
    """What :func:`run_rank` left equals ``nn.BatchNorm`` in float64 on each group's whole batch."""
    results = [torch.load(Path(folder) / f"{rank}.pt")[CASES.index(case)] for rank in range(ranks)]
    starts = [sum(SIZES[ranks][:r]) for r in range(0, ranks + 1, group or ranks)]
    for n, (first, last) in enumerate(pairwise(starts)):
        parts = results[n * (group or ranks) :][: group or ranks]
        _check(case, parts, run(layer(case).double(), case, slice(first, last), torch.float64))


def _check(case: Case, parts: list[dict[str, Any]], exact: dict[str, Any]) -> None:
    # Statistics are fp32 numbers: a mean far from zero is off by its last place, sums by more.
    limit = 1e-5 + 3 * 2**-23 * case.mean / (case.std or 1)
    limit = {torch.float64: 1e-10, torch.bfloat16: 2**-7}.get(case.dtype, limit)

    def check(found: Tensor, expected: Tensor) -> None:
        error = (found.double() - expected.double()).abs().max()
        assert error <= limit * expected.abs().max()

    for step in range(STEPS):
        for key in ("y", "dx"):
            check(torch.cat([part[key][step] for part in parts]), exact[key][step])
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
