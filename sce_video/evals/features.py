"""Features of a shard set's samples: the trunk's output, averaged over the views of a video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sce_video.augment.ops import normalise
from sce_video.evals.scores import mean_of_views
from sce_video.progress import Progress
from sce_video.shard.format import ShardIndex
from sce_video.stream.clips import UniformClips
from sce_video.stream.loader import ClipDataset, load
from sce_video.stream.order import Position
from sce_video.stream.shards import ShardReader

_CLIPS_AT_ONCE = 64  # clips a forward pass


@dataclass(frozen=True)
class Features:
    """What was extracted. Nothing stands in for a sample that could not be read."""

    values: Tensor  # [n,F] float32, CPU
    rows: NDArray[np.int64]  # [n] rows of the index
    labels: Tensor  # [n] int64
    missing: list[tuple[str, str]]  # (shard/key, reason)


def extract(
    trunks: dict[str, nn.Module],
    index: ShardIndex,
    rows: NDArray[np.int64],
    views: UniformClips,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    workers: int = 0,
    batch: int = 8,
    device: torch.device | None = None,
    title: str = "videos",
    pool: Callable[[Tensor], Tensor] = mean_of_views,
) -> dict[str, Features]:
    """Features of ``rows`` from several trunks in one pass over the videos.

    Args:
        trunks: name -> network ``[B,3,T,S,S] -> [B,F]`` in eval mode.
        index: the shard set.
        rows: of the index, in the order wanted.
        views: of each video; ``pool`` makes one row of them.
        mean: of the pixels in [0,1].
        std: of the pixels in [0,1].
        workers: processes that decode.
        batch: videos at once.
        device: where to compute; the trunks are moved there.
        title: of the progress shown.
        pool: views ``[B,V,F]`` -> videos ``[B,F]``.

    Returns:
        Name -> features.
    """
    device = device or torch.device("cpu")
    trunks = {name: trunk.to(device).eval() for name, trunk in trunks.items()}
    reader = ShardReader(index)
    dataset = ClipDataset(reader, views)
    chunks = [rows[i : i + batch] for i in range(0, len(rows), batch)]
    batches = [[Position(0, i, int(row)) for i, row in enumerate(chunk)] for chunk in chunks]
    found: list[NDArray[np.int64]] = []
    values: dict[str, list[Tensor]] = {name: [] for name in trunks}
    missing: list[tuple[str, str]] = []
    with Progress(len(rows), title) as bar:
        for number, clips in enumerate(load(dataset, batches, workers=workers)):
            missing += clips.bad
            if len(clips.rows):
                found.append(clips.rows)
                for name, feature in forward(trunks, clips.views, mean, std, device).items():
                    values[name].append(pool(feature))
            bar.update(min((number + 1) * batch, len(rows)))
    kept = np.concatenate(found) if found else np.zeros(0, np.int64)
    labels = torch.from_numpy(reader.labels[kept].astype(np.int64))
    return {
        name: Features(torch.cat(parts) if parts else torch.zeros(0, 0), kept, labels, missing)
        for name, parts in values.items()
    }


@torch.no_grad()
def forward(
    trunks: dict[str, nn.Module],
    views: list[Tensor],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device,
) -> dict[str, Tensor]:
    """Name -> what its network makes of each view ``[B,V,F]``, of V views ``[B,T,3,S,S]`` uint8."""
    flat = torch.stack(views, 1).flatten(0, 1)
    parts: dict[str, list[Tensor]] = {name: [] for name in trunks}
    stats = [torch.tensor(colour, device=device) for colour in (mean, std)]
    for chunk in torch.split(flat, _CLIPS_AT_ONCE):
        x = normalise(chunk.to(device).float() / 255, *stats)
        for name, trunk in trunks.items():
            parts[name].append(trunk(x).float().cpu())
    shape = (len(views[0]), len(views), -1)
    return {name: torch.cat(part).view(shape) for name, part in parts.items()}
