"""SyncBN on gloo ranks equals BatchNorm on the whole batch, or on that of each group of ranks."""

from __future__ import annotations

import copy
import os
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import nn

from sce_video.engine.runtime import start_runtime, stop_runtime
from sce_video.model.syncbn import SyncBatchNorm, average_statistics, convert_sync_bn, rank_group
from tests.batch_norm import CASES, Case, check_ranks, run_rank
from tests.batch_norm_kernels import kernels_for_cpus
from tests.dist.pool import RankPool, pretrain, small_config

# Ranks, ranks of a BN group, and whether the kernels for CUDA compute.
KINDS = [(3, None, False), (3, None, True), (4, 2, False)]


def job(folder: str, group: int | None, kernels: bool) -> None:
    """All cases on a rank."""
    start_runtime(workers=0)
    torch.set_num_threads(1)
    if kernels:
        kernels_for_cpus()
        patch("sce_video.model.normalise.uses_kernels", lambda x: True).start()
    run_rank(folder, group)
    stop_runtime()


@pytest.fixture(scope="module")
def everything(pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, str]:
    """The results' folder of every kind."""
    found = {}
    for kind in KINDS:
        ranks, *rest = kind
        found[kind] = str(tmp_path_factory.mktemp("syncbn"))
        pool.run(ranks, job, found[kind], *rest)
    return found


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_ranks_equal_the_whole_batch(case: Case, kind: Any, everything: dict[Any, str]) -> None:
    check_ranks(everything[kind], kind[0], case, kind[1])


def compiled_job(backend: str) -> None:
    """Two BNs, of all ranks and of a group, compiled in one piece equal the same eager."""
    start_runtime(workers=0)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    convolution = partial(nn.Conv3d, kernel_size=3, padding=1, bias=False)
    first, then = nn.BatchNorm3d(8), nn.BatchNorm3d(4, momentum=None)
    layers = convolution(3, 8), first, nn.ReLU(inplace=True), convolution(8, 4), then
    net: Any = convert_sync_bn(nn.Sequential(*layers).double(), rank_group(2))
    net[1].group = None
    eager: Any = copy.deepcopy(net)
    assert eager[4].group is net[4].group
    found = []
    whole: Any = torch.compile(net, fullgraph=True, dynamic=False, backend=backend)
    for kind in (eager, whole):
        torch.manual_seed(10 + dist.get_rank())
        for _ in range(2):
            x = torch.randn(3, 3, 4, 8, 8, dtype=torch.float64)
            x = x.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
            y = kind(x)
            y.backward(torch.randn(y.shape, dtype=torch.float64))
        found.append({"y": y, "dx": x.grad, **kind.state_dict()})
        found[-1] |= {f"{name} gradient": p.grad for name, p in kind.named_parameters()}
    ours = {key.replace("_orig_mod.", ""): value for key, value in found[1].items()}
    torch.testing.assert_close(ours, found[0], rtol=1e-10, atol=1e-10)
    stop_runtime()


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_it_is_one_graph_and_the_same(backend: str, pool: RankPool) -> None:
    pool.run(2, compiled_job, backend)


def pretrained(folder: str) -> None:
    """A small run on a rank, in groups of two; leaves the rank's state."""
    kept: list[Any] = []
    config = small_config(Path(folder) / "run", model={"bn_group": 2}, train={"epochs": 1})
    pretrain(config, kept.append)
    torch.save(kept[0].state_dict(), Path(folder) / f"{os.environ['RANK']}.pt")


def test_after_every_step_groups_have_the_same_statistics(pool: RankPool, tmp_path: Path) -> None:
    pool.run(4, pretrained, str(tmp_path))
    states = [torch.load(tmp_path / f"{rank}.pt") for rank in range(4)]
    assert any("running_var" in name for name in states[0])
    for state in states[1:]:
        torch.testing.assert_close(state, states[0], rtol=0, atol=0)


def average_job() -> None:
    """Statistics of two groups become their mean."""
    start_runtime(workers=0)
    rank = dist.get_rank()
    net: Any = nn.Sequential(SyncBatchNorm(3), SyncBatchNorm(2, track_running_stats=False))
    net[0].running_mean.fill_(rank)
    average_statistics(net)
    assert net[0].running_mean.tolist() == [0.5] * 3
    assert net[0].running_var.tolist() == [1.0] * 3
    stop_runtime()


def test_statistics_of_groups_are_averaged(pool: RankPool) -> None:
    pool.run(2, average_job)
