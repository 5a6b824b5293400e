"""Features of a shard set's samples: the trunk's output, averaged over the views of a video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from sce_video.augment.ops import normalise
from sce_video.errors import SceVideoError
from sce_video.evals.views import mean_of_views
from sce_video.model.encoder import EncoderSpec
from sce_video.model.recognise import some
from sce_video.progress import Progress
from sce_video.shardset.index import ShardIndex
from sce_video.stream.clips import UniformClips
from sce_video.stream.loader import ClipDataset, load, never
from sce_video.stream.order import Position
from sce_video.stream.reader import ShardReader

_CLIPS_AT_ONCE = 64  # of a forward pass

Network = Callable[[Tensor], Tensor]
"""Normalised clips ``[B,3,T,S,S]`` -> ``[B,F]``."""


class NotFiniteError(SceVideoError):
    """A network gave what is not finite: no figure can be made of it."""


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
    network: Network,
    spec: EncoderSpec,
    index: ShardIndex,
    batches: Sequence[NDArray[np.int64]],
    views: UniformClips,
    *,
    workers: int = 0,
    device: torch.device,
    pool: Callable[[Tensor], Tensor] = mean_of_views,
    name: str = "the network",
    stopped: Callable[[], bool] = never,
) -> Iterator[Features]:
    """Features of each batch of rows, batch by batch.

    Args:
        network: on ``device``, in eval mode.
        spec: with the mean and std of the pixels that the network takes.
        index: the shard set.
        batches: of rows of the index.
        views: of each video; their features are averaged.
        workers: processes that decode.
        device: where to compute.
        pool: views ``[B,V,F]`` -> samples ``[B,F]``.
        name: of the network, for messages.
        stopped: asked while a batch is waited for: whether to give up.

    Raises:
        NotFiniteError: as :func:`check_finite`.
        Interrupted: it was given up.
    """
    dataset = ClipDataset(ShardReader(index), views)
    positions = [[Position(0, int(row)) for row in batch] for batch in batches]
    for clips in load(dataset, positions, workers=workers, stopped=stopped):
        values = torch.zeros(0, 0, 0)
        if len(clips.rows):
            values = forward(network, spec, clips.views, device)
            check_finite(values, partial(sample_names, index, clips.rows), f"{name}: gives")
        yield Features(pool(values), clips.rows, clips.labels, clips.bad)


def extract(
    network: Network,
    spec: EncoderSpec,
    index: ShardIndex,
    rows: NDArray[np.int64],
    views: UniformClips,
    *,
    workers: int = 0,
    title: str = "videos",
    name: str = "the network",
) -> Features:
    """Features of ``rows``, ascending, on the CPU; arguments as :func:`extract_batches`."""
    batches, cpu = cut(rows, views), torch.device("cpu")
    options: dict[str, Any] = {"workers": workers, "device": cpu, "name": name}
    passes = extract_batches(network, spec, index, batches, views, **options)
    return collect(passes, len(batches), title)


def collect(passes: Iterable[Features], count: int, title: str) -> Features:
    """The features of ``count`` batches as one, with a progress bar while they are computed."""
    found = []
    with Progress(count, "batches", title=title) as bar:
        for features in passes:
            found.append(features)
            bar.update(len(found))
    return join(found)


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


def sample_names(
    index: ShardIndex, rows: NDArray[np.int64], places: NDArray[np.int64] | slice = slice(None)
) -> list[str]:
    """``shard/key`` of rows of the index, or of those at some places among them."""
    table = index.table.select(["shard", "key"]).take(pa.array(rows[places]))
    return [f"{row['shard']}/{row['key']}" for row in table.to_pylist()]


def check_finite(
    values: Tensor,
    names: Callable[[NDArray[np.int64]], Sequence[str]],
    problem: str,
    cure: str = "no figure is made of them",
) -> None:
    """Refuse what is not finite, or has no finite length, by which cosines divide.

    Args:
        values: ``[B,...,F]`` of B samples; zeros and constants are as good as any.
        names: of the samples at some places in B.
        problem: what is wrong where the values are not finite, up to a verb.
        cure: what to do.

    Raises:
        NotFiniteError: with the samples.
    """
    finite = torch.linalg.vector_norm(values.flatten(1), dim=1).isfinite()
    if not finite.all():
        bad = some(names((~finite).nonzero().flatten().numpy()))
        raise NotFiniteError(
            f"{problem} values that are not finite (NaN, Inf, or beyond 1e19) for {bad}; {cure}"
        )


@torch.no_grad()
def forward(
    network: Network, spec: EncoderSpec, views: Sequence[Tensor], device: torch.device
) -> Tensor:
    """What the network makes of each view ``[B,V,F]``, of V views ``[B,T,3,S,S]`` uint8."""
    flat = torch.stack(list(views), 1).flatten(0, 1)
    parts = []
    stats = [torch.tensor(colour, device=device) for colour in (spec.mean, spec.std)]
    for chunk in torch.split(flat, _CLIPS_AT_ONCE):
        x = normalise(chunk.to(device).float() / 255, *stats)
        parts.append(network(x).float().cpu())
    return torch.cat(parts).view(len(views[0]), len(views), -1)
