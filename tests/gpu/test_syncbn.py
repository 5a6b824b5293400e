"""BN over ranks on a GPU: the checks of tests/dist/test_syncbn.py, over NCCL and over gloo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sce_video.model.syncbn import convert_sync_bn
from tests.dist import test_syncbn as cpu
from tests.gpu.ranks import FreshRanks, all_digits

pytestmark = pytest.mark.gpu

WAYS = {  # ranks, of how many samples each; one GPU has one rank of NCCL
    "nccl": [8],
    "gloo": cpu.SIZES[2],
}


class There(nn.Sequential):
    """Layers on a device, of inputs and for outputs on the CPU."""

    where: torch.device

    def forward(self, x: Tensor) -> Tensor:
        """``[B,C,...]`` -> the same shape."""
        made: Tensor = super().forward(x.to(self.where))  # type: ignore[no-untyped-call]
        return made.cpu()


def train_layers(way: str, folder: Path, where: torch.device) -> None:
    """A job: every case on this rank's part of the batch."""
    all_digits()
    rank, sizes = int(os.environ["RANK"]), WAYS[way]
    backend = way if where.type == "cuda" else "gloo"
    dist.init_process_group(backend, f"file://{folder}/meet", rank=rank, world_size=len(sizes))
    part = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    found = []
    # A rank alone takes torch's BN: that it has a peer sends it through the exchange.
    with patch.object(dist, "get_world_size", return_value=2):
        for case in cpu.CASES:
            net = There(*convert_sync_bn(cpu.layer(case)).to(where).children())
            net.where = where
            found.append(cpu.run(net, case, part, case.dtype))
            for grad in found[-1]["params"].values():
                dist.all_reduce(grad)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def everything(
    ranks: FreshRanks, device: torch.device, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Any]]:
    """Way -> results by rank and case, on the CPU."""
    found = {}
    for way, sizes in WAYS.items():
        folder = tmp_path_factory.mktemp(way)
        ranks.run(len(sizes), train_layers, way, folder, device)
        files = [folder / f"{rank}.pt" for rank in range(len(sizes))]
        found[way] = [torch.load(file, map_location="cpu") for file in files]
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", cpu.CASES, ids=str)
def test_ranks_equal_the_whole_batch(
    case: cpu.Case, way: str, everything: dict[str, list[Any]]
) -> None:
    results = everything[way]
    cpu.test_ranks_equal_the_whole_batch(case, len(results), {len(results): results})
