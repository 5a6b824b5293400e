"""Memory of the processes that make clips: flat, and small."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sce_video.config.recipes import RandomResizedCrop
from sce_video.shardset.index import open_shards
from sce_video.stream.clips import ClipTiming, RandomClips
from sce_video.stream.loader import ClipDataset, load
from sce_video.stream.order import Position
from sce_video.stream.reader import ShardReader
from tests.memory import resident_mib
from tests.unit.stream.test_workers import descendants


def proportional_mib(pids: set[int]) -> float:
    """MiB of processes, pages that several share counted once in all (Linux)."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def growth(shards: Path, samples: int, size: int) -> tuple[float, float]:
    """MiB of this process after a third of ``samples`` and at the end: all work is done here."""
    crops = ((RandomResizedCrop((0.2, 0.766)), size),) * 2
    sampler = RandomClips(crops, ClipTiming(4, 0.8), 0.2, seed=0)
    dataset = ClipDataset(ShardReader(open_shards(shards)), sampler, substitutes=np.arange(6))
    seen = []
    for i in range(samples):
        dataset.__getitems__([Position(i // 6, i % 6)])
        if i in (samples // 3, samples - 1):
            seen.append(resident_mib())
    return seen[0], seen[1]


def test_memory_is_flat(shards: Path) -> None:
    early, late = growth(shards, 600, 32)
    assert late - early < 12


def test_a_loader_of_two_workers_is_small(shards: Path) -> None:
    """16 frames of 224 x 224, two views, 8 videos a batch."""
    crops = ((RandomResizedCrop((0.2, 0.766)), 224),) * 2
    sampler = RandomClips(crops, ClipTiming(16, 2.56), 0.2, seed=0)
    dataset = ClipDataset(ShardReader(open_shards(shards)), sampler)
    positions = [[Position(0, i % 6) for i in range(8)]] * 12
    most = 0.0
    before = descendants(os.getpid())
    for _ in load(dataset, positions, workers=2):
        workers = descendants(os.getpid()) - before
        most = max(most, proportional_mib(workers))
    assert 100 < most < 2048


@pytest.mark.soak
def test_memory_is_flat_over_5000_samples(
    shards: Path, record_property: Callable[[str, object], None]
) -> None:
    early, late = growth(shards, 5000, 112)
    record_property("mib_early", early)
    record_property("mib_late", late)
    assert late - early < 20
