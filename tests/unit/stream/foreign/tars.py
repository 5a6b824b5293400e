"""Tars as others make them, and plans over them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from sce_video.stream.foreign.plan import ForeignPlan
from sce_video.stream.remote.cache import Cache


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return str(path)


def plan(
    shards: Iterable[str], rank: int = 0, ranks: int = 1, *, images: bool = False, **changes: int
) -> ForeignPlan:
    settings = {"seed": 0, "epochs": 2, "batch_size": 4, "epoch_samples": 9, **changes}
    return ForeignPlan(
        **settings,
        digest="d",
        rank=rank,
        ranks=ranks,
        shards=tuple(shards),
        cache=Cache.at(),
        images=images,
    )
