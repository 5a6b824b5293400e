"""What a run reads: a shard set with its index, or tars without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sce_video.config.tasks import AnyConfig, Config, PretrainConfig
from sce_video.errors import UsageError
from sce_video.shardset.index import ShardIndex
from sce_video.shardset.labels import match_classes
from sce_video.shardset.manifest import MANIFEST_NAME
from sce_video.shardset.published import PUBLISHED
from sce_video.stream.foreign.plan import ForeignPlan, foreign_plan, is_foreign
from sce_video.stream.order import WINDOW, BatchPlan, TrainingPlan, batch_plan, schedule
from sce_video.stream.reader import RemoteIndex, open_set
from sce_video.stream.remote.cache import Cache
from sce_video.stream.remote.files import is_remote


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
    labels: NDArray[np.int64]  # of these rows, as the run numbers classes; empty = it learns none


def open_held_out(
    config: AnyConfig, plan: TrainingPlan, index: ShardIndex | None
) -> HeldOut | None:
    """The set and rows that ``eval`` names; None where nothing is held out.

    Args:
        config: of the run.
        plan: of its training, from :func:`open_data`.
        index: of the set that is trained on, whose classes the run learns; None = it has none.

    Raises:
        UsageError: no such split, the other kind of media, too few samples, samples without labels
            or with one that the run does not learn, or samples that training sees.
        SceVideoError: the set cannot be fetched or is damaged.
    """
    watch, data = config.eval, config.data
    if watch.every is None:
        return None
    found = open_set(watch.shards or str(data.shards), Cache.at(data.cache, data.cache_gib))
    rows = found.rows(watch.split)
    if found.images != (config.clip is None):
        raise UsageError(f"eval: {found.name} holds {'images' if found.images else 'videos'}")
    labels = found.numbers("label")[rows].astype(np.int64)
    pretraining = isinstance(config, PretrainConfig)
    if len(rows) < 1 + pretraining or labels.min() < 0:  # neighbours vote for each other
        least = "two at least" if pretraining else "one at least"
        raise UsageError(
            f"eval: {found.name}, {watch.split or 'all of it'}: needs samples with labels, "
            f"{least}; has {len(rows)} samples, {(labels < 0).sum()} of them without"
        )
    if isinstance(plan, BatchPlan) and plan.digest == found.digest:
        common = len(np.intersect1d(plan.rows, rows))
        if common:
            raise UsageError(
                f"eval: {watch.split or 'the whole set'} shares {common} samples with what "
                "is trained on; give a split that is held out"
            )
    classes = index.manifest.classes if index else ()
    if not classes or (isinstance(config, PretrainConfig) and not config.eval.linear):
        return HeldOut(found, rows, labels[:0])
    learns = "the probe learns (eval.linear)" if pretraining else "the run learns"
    whose, used = f"{data.shards}, which {learns}", labels.tolist()
    numbers = match_classes(f"eval: {found.name}", found.manifest.classes, classes, whose, used)
    return HeldOut(found, rows, np.array(numbers)[labels])


def is_here(shards: str | Sequence[str]) -> bool:
    """Whether a shard set lies on this machine, finished."""
    return isinstance(shards, str) and (Path(shards) / MANIFEST_NAME).is_file()


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
    if samples is None and is_here(shards):
        return open_data(config, 0, ranks)[1], ""
    names = [shards] if isinstance(shards, str) else shards
    if samples is None and is_foreign(shards) and not any(map(is_remote, names)):
        return foreign_plan(config, 0, ranks), ""
    note = " (given)"
    if samples is None and data.epoch_samples and is_foreign(shards):
        samples, note = data.epoch_samples, " (data.epoch_samples)"
    published = PUBLISHED.get(name)
    if samples is None and published and str(data.split) in published.samples:
        samples, note = published.samples[str(data.split)], " (the published set's; no shards here)"
    if samples is None:
        raise UsageError(f"{shards}: no shards here, and no set of known size; give --samples N")
    classes = published.classes if published else None
    if is_here(shards):
        classes = len(open_set(str(shards)).manifest.classes)
    if config.task != "pretrain" and classes is None:
        raise UsageError(f"{shards}: no shards here, and no set of known classes")
    rows = np.arange(samples)
    plan = BatchPlan(
        digest="",
        rows=rows,
        shard_of=np.zeros_like(rows),
        classes=classes or 0,
        **schedule(config, 0, ranks),
    )
    return plan, note
