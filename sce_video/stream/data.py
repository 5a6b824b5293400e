"""What a run reads: a shard set with its index, or tars without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sce_video.config.tasks import Config, PretrainConfig
from sce_video.errors import UsageError
from sce_video.shardset.index import ShardIndex
from sce_video.shardset.labels import match_classes
from sce_video.shardset.manifest import MANIFEST_NAME
from sce_video.shardset.published import PUBLISHED
from sce_video.stream.foreign.plan import ForeignPlan, foreign_plan, is_foreign
from sce_video.stream.order import WINDOW, BatchPlan, TrainingPlan, batch_plan, schedule
from sce_video.stream.reader import RemoteIndex, open_set
from sce_video.stream.remote.cache import Cache


def open_data(
    config: Config, rank: int, ranks: int
) -> tuple[ShardIndex, BatchPlan] | tuple[None, ForeignPlan]:
    """The index, if there is one, and this rank's plan.

    Raises:
        UsageError: not there, not enough for a batch, or keys that do not go with it.
        SceVideoError: it cannot be fetched or is damaged.
    """
    data = config.data
    if is_foreign(data.shards):
        return None, foreign_plan(config, rank, ranks)
    index = open_set(str(data.shards), Cache.at(data.cache, data.cache_gib))
    if data.epoch_samples is not None:
        raise UsageError(
            f"data.epoch_samples={data.epoch_samples}: {data.shards} has an index, which says what "
            "an epoch is; drop the key"
        )
    if isinstance(index, RemoteIndex):
        # Shards of a window are read in turns: what does not fit would be fetched endlessly.
        sizes = sorted((shard.bytes for shard in index.manifest.shards), reverse=True)
        window, limit = sum(sizes[:WINDOW]), index.cache.limit
        if window > limit:
            raise UsageError(
                f"data.cache_gib: {limit / 2**30:.3g} GiB hold less than the {WINDOW} "
                f"shards that are mixed with each other ({window / 2**30:.3g} GiB)"
            )
    return index, batch_plan(config, index, rank, ranks)


@dataclass(frozen=True)
class HeldOut:
    """What a run looks at while it trains."""

    index: ShardIndex
    rows: NDArray[np.int64]  # of the index
    labels: NDArray[np.int64]  # of these rows, as the probe numbers classes; empty = no probe


def open_held_out(
    config: PretrainConfig, plan: TrainingPlan, classes: Sequence[str]
) -> HeldOut | None:
    """The set and rows that ``eval`` names; None where nothing is held out.

    Args:
        config: of the run.
        plan: of its training, from :func:`open_data`.
        classes: of the set that is trained on, which a probe learns; none without labels.

    Raises:
        UsageError: no such split, samples without labels or with one that the probe does not
            know, or samples that training sees.
        SceVideoError: the set cannot be fetched or is damaged.
    """
    if config.eval.every is None:
        return None
    data = config.data
    index = open_set(config.eval.shards or str(data.shards), Cache.at(data.cache, data.cache_gib))
    rows = index.rows(config.eval.split)
    if index.images != (config.clip is None):
        raise UsageError(f"eval: {index.name} holds {'images' if index.images else 'videos'}")
    labels = index.numbers("label")[rows].astype(np.int64)
    if len(rows) < 2 or labels.min() < 0:
        raise UsageError(
            f"eval: {index.name}, {config.eval.split or 'all of it'}: needs samples with labels, "
            f"two at least, and has {len(rows)}"
        )
    if isinstance(plan, BatchPlan) and plan.digest == index.digest:
        common = len(np.intersect1d(plan.rows, rows))
        if common:
            raise UsageError(
                f"eval: {config.eval.split or 'the whole set'} shares {common} samples with what "
                "is trained on; give a split that is held out"
            )
    if not (config.eval.linear and classes):
        return HeldOut(index, rows, labels[:0])
    own, whose = index.manifest.classes, f"{data.shards}, which the probe learns (eval.linear)"
    numbers = match_classes(f"eval: {index.name}", own, classes, whose, labels.tolist())
    return HeldOut(index, rows, np.array(numbers)[labels])


def planned_data(config: Config, samples: int | None, ranks: int) -> tuple[TrainingPlan, str]:
    """A plan without touching network or cache, and where its number of samples comes from.

    Args:
        config: of the run.
        samples: of an epoch; None = those of the shards if they are here, else what is known of
            the set.
        ranks: of the run.

    Raises:
        UsageError: the number of samples is not known, or has no full batch.
    """
    data = config.data
    shards, name = data.shards, str(data.shards).rstrip("/").rpartition("/")[2]
    if samples is None and (Path(str(shards)) / MANIFEST_NAME).is_file():
        return open_data(config, 0, ranks)[1], ""
    note = " (given)"
    if samples is None and data.epoch_samples:
        samples, note = data.epoch_samples, " (data.epoch_samples)"
    published = PUBLISHED.get(name)
    if samples is None and published and str(data.split) in published.samples:
        samples, note = published.samples[str(data.split)], " (the published set's; no shards here)"
    if samples is None:
        raise UsageError(f"{shards}: no shards here, and no set of known size; give --samples N")
    if config.task != "pretrain" and published is None:
        raise UsageError(f"{shards}: no shards here, and no set of known classes")
    rows = np.arange(samples)
    plan = BatchPlan(
        digest="",
        rows=rows,
        shard_of=np.zeros_like(rows),
        classes=published.classes if published else 0,
        **schedule(config, 0, ranks),
    )
    return plan, note
