"""Pixels, too, are the same on any ranks and workers, and after a stop anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sce_video.config.recipes import RandomResizedCrop
from sce_video.shardset.index import ShardIndex, open_shards
from sce_video.stream.clips import ClipTiming, RandomClips
from sce_video.stream.loader import ClipDataset, load
from sce_video.stream.order import BatchPlan
from sce_video.stream.reader import ShardReader
from tests.runs import make_shards

CROPS = ((RandomResizedCrop((0.2, 0.766)), 24),) * 2
SAMPLER = RandomClips(CROPS, ClipTiming(4, 0.4), 0.5, seed=5)
STEPS = 4  # an epoch; two epochs


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    return open_shards(make_shards(tmp_path_factory.mktemp("grid"), videos=50))


def plan(index: ShardIndex, batch: int = 12) -> BatchPlan:
    rows = np.arange(len(index))
    return BatchPlan(
        rows=rows, shard_of=rows // 9, digest=index.digest, seed=5, epochs=2, batch_size=batch
    )


def digests(index: ShardIndex, ranks: int, workers: int, consumed: int, batch: int) -> list[bytes]:
    """One a global batch: all its rows, labels and pixels."""
    everyone = []
    for rank in range(ranks):
        mine = replace(plan(index, batch), rank=rank, ranks=ranks)
        dataset = ClipDataset(ShardReader(index), SAMPLER, substitutes=mine.rows)
        everyone.append(list(load(dataset, mine.micro_batches(consumed), workers=workers)))
    joined = []
    for parts in zip(*everyone, strict=True):
        tensors: list[Tensor] = [torch.cat([p.labels for p in parts])]
        tensors += [torch.cat([p.views[view] for p in parts]) for view in range(2)]
        rows = np.concatenate([p.rows for p in parts])
        joined.append(rows.tobytes() + b"".join(t.numpy().tobytes() for t in tensors))
    return joined


@pytest.fixture(scope="module")
def whole(index: ShardIndex) -> list[bytes]:
    found = digests(index, 1, 0, 0, 12)
    assert len(found) == 2 * STEPS
    assert len(set(found)) == len(found)
    return found


@pytest.mark.parametrize(
    ("ranks", "workers", "stopped_after"), [(2, 1, 0), (3, 0, 3), (4, 2, 5), (1, 3, 7)]
)
def test_the_same_pixels(
    ranks: int, workers: int, stopped_after: int, index: ShardIndex, whole: list[bytes]
) -> None:
    assert digests(index, ranks, workers, 12 * stopped_after, 12) == whole[stopped_after:]


def test_a_sample_looks_the_same_in_a_batch_of_any_size(index: ShardIndex) -> None:
    """Its clips hang on seed, epoch and sample alone."""
    by_row: list[dict[int, bytes]] = []
    for batch in (12, 5):
        mine = plan(index, batch)
        dataset = ClipDataset(ShardReader(index), SAMPLER, substitutes=mine.rows)
        found = {}
        for made in load(dataset, mine.micro_batches(0), workers=0):
            for i, (row, epoch) in enumerate(zip(made.rows, made.epochs, strict=True)):
                if epoch == 0:
                    found[int(row)] = b"".join(v[i].numpy().tobytes() for v in made.views)
        by_row.append(found)
    common = set(by_row[0]) & set(by_row[1])
    assert len(common) >= 46
    assert all(by_row[0][row] == by_row[1][row] for row in common)


@pytest.mark.soak
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_the_same_pixels_everywhere(
    ranks: int, workers: int, index: ShardIndex, whole: list[bytes], tmp_path: Path
) -> None:
    for stopped_after in range(2 * STEPS):
        assert digests(index, ranks, workers, 12 * stopped_after, 12) == whole[stopped_after:]
