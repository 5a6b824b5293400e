"""BN over ranks on a GPU, over NCCL and over gloo: BN of the whole batch."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from tests.batch_norm import CASES, SIZES, Case, check_ranks, run_rank
from tests.gpu.ranks import FreshRanks, all_digits

pytestmark = pytest.mark.gpu

WAYS = {"nccl": 1, "gloo": 2}  # ranks: one GPU has one rank of NCCL
ALONE = patch.dict(SIZES, {1: [8]})


def train_layers(way: str, folder: str, device: str) -> None:
    """A job: every case on this rank's part of the batch."""
    all_digits()
    backend = way if device == "cuda" else "gloo"
    rank, ranks = int(os.environ["RANK"]), WAYS[way]
    dist.init_process_group(backend, f"file://{folder}/meet", rank=rank, world_size=ranks)
    # A rank alone takes torch's BN: that it has a peer sends it through the exchange.
    peers = SimpleNamespace(is_initialized=lambda: True, get_world_size=lambda _: 2)
    with ALONE, patch("sce_video.model.syncbn.dist", peers):
        run_rank(folder, None, device)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def everything(
    ranks: FreshRanks, device: torch.device, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The results' folder of every way."""
    found = {}
    for way, count in WAYS.items():
        found[way] = tmp_path_factory.mktemp(way)
        ranks.run(count, train_layers, way, str(found[way]), device.type)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_ranks_equal_the_whole_batch(case: Case, way: str, everything: dict[str, Path]) -> None:
    with ALONE:
        check_ranks(str(everything[way]), WAYS[way], case)
