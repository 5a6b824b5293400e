"""Features of a shard set's samples: the trunk's output, averaged over the views of a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sce_video.augment.ops import normalise
from sce_video.evals.views import mean_of_views
from sce_video.model.encoder import EncoderSpec
from sce_video.progress import Progress
from sce_video.shardset.index import ShardIndex
from sce_video.stream.clips import UniformClips
from sce_video.stream.loader import ClipDataset, load
from sce_video.stream.order import Position
from sce_video.stream.reader import ShardReader

_CLIPS_AT_ONCE = 64  # of a forward pass


@dataclass(frozen=True)
class Features:
    """What was extracted. Nothing stands in for a sample that could not be read."""

    values: Tensor  # [n,F] float32, CPU
    rows: NDArray[np.int64]  # [n] rows of the index, ascending
    labels: Tensor  # [n] int64, -1 = none
    missing: list[tuple[str, str]]  # (shard/key, reason)

    @property
    def missing_lines(self) -> list[str]:
        """``shard/key: reason`` of each sample that could not be read."""
        return [f"{name}: {reason}" for name, reason in self.missing]

    def at(self, places: NDArray[np.int64]) -> Features:
        """Those at ``places``; what is missing stays."""
        chosen = torch.from_numpy(places)
        return Features(self.values[chosen], self.rows[places], self.labels[chosen], self.missing)


def cut(rows: NDArray[np.int64], views: UniformClips) -> list[NDArray[np.int64]]:
    """``rows`` in batches of as many as a forward pass takes, whoever computes them.

    A feature's last bits may depend on its batch, and a batch on ``rows`` and ``views`` alone.
    """
    size = max(1, _CLIPS_AT_ONCE // (views.clips * views.crops))
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def extract_batches(
    trunks: dict[str, nn.Module],
    spec: EncoderSpec,
    index: ShardIndex,
    batches: Sequence[NDArray[np.int64]],
    views: UniformClips,
    *,
    workers: int = 0,
    device: torch.device,
    pool: Callable[[Tensor], Tensor] = mean_of_views,
) -> Iterator[dict[str, Features]]:
    """Features of each batch of rows from several trunks, in one pass over the videos.

    Args:
        trunks: name -> network ``[B,3,T,S,S] -> [B,F]``; moved to ``device``, in eval mode.
        spec: with the mean and std of the pixels that the networks take.
        index: the shard set.
        batches: of rows of the index.
        views: of each video; their features are averaged.
        workers: processes that decode.
        device: where to compute.
        pool: views ``[B,V,F]`` -> samples ``[B,F]``.

    Yields:
        Name -> features, batch by batch.
    """
    trunks = {name: trunk.to(device).eval() for name, trunk in trunks.items()}
    dataset = ClipDataset(ShardReader(index), views)
    positions = [[Position(0, int(row)) for row in batch] for batch in batches]
    for clips in load(dataset, positions, workers=workers):
        found = dict.fromkeys(trunks, torch.zeros(0, 0, 0))
        if len(clips.rows):
            found = forward(trunks, spec, clips.views, device)
        yield {
            name: Features(pool(values), clips.rows, clips.labels, clips.bad)
            for name, values in found.items()
        }


def extract(
    trunks: dict[str, nn.Module],
    spec: EncoderSpec,
    index: ShardIndex,
    rows: NDArray[np.int64],
    views: UniformClips,
    *,
    workers: int = 0,
    title: str = "videos",
) -> dict[str, Features]:
    """Features of ``rows``, ascending, on the CPU; arguments as :func:`extract_batches`."""
    found = []
    batches = cut(rows, views)
    cpu = torch.device("cpu")
    passes = extract_batches(trunks, spec, index, batches, views, workers=workers, device=cpu)
    with Progress(len(batches), "batches", title=title) as bar:
        for features in passes:
            found.append(features)
            bar.update(len(found))
    return {name: join([features[name] for features in found]) for name in trunks}


def join(parts: Sequence[Features]) -> Features:
    """Parts in any order as one; a sample that is in two of them counts once."""
    filled = [part for part in parts if len(part.rows)]
    missing = sorted({pair for part in parts for pair in part.missing})
    if not filled:
        return Features(torch.zeros(0, 0), np.zeros(0, np.int64), torch.zeros(0).long(), missing)
    rows = np.concatenate([part.rows for part in filled])
    values = torch.cat([part.values for part in filled])
    labels = torch.cat([part.labels for part in filled])
    return Features(values, rows, labels, missing).at(np.unique(rows, return_index=True)[1])


@torch.no_grad()
def forward(
    trunks: dict[str, nn.Module],
    spec: EncoderSpec,
    views: Sequence[Tensor],
    device: torch.device,
) -> dict[str, Tensor]:
    """Name -> what its network makes of each view ``[B,V,F]``, of V views ``[B,T,3,S,S]`` uint8."""
    flat = torch.stack(list(views), 1).flatten(0, 1)
    parts: dict[str, list[Tensor]] = {name: [] for name in trunks}
    stats = [torch.tensor(colour, device=device) for colour in (spec.mean, spec.std)]
    for chunk in torch.split(flat, _CLIPS_AT_ONCE):
        x = normalise(chunk.to(device).float() / 255, *stats)
        for name, trunk in trunks.items():
            parts[name].append(trunk(x).float().cpu())
    samples = len(views[0])
    return {name: torch.cat(part).view(samples, len(views), -1) for name, part in parts.items()}
