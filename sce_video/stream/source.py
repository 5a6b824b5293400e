"""What a run reads: a shard set with its index, or tars without one."""

from __future__ import annotations

from sce_video.config import Config
from sce_video.errors import UsageError
from sce_video.shard.format import ShardIndex
from sce_video.stream.cache import Cache
from sce_video.stream.foreign import ForeignPlan, foreign_plan, is_foreign
from sce_video.stream.order import WINDOW, BatchPlan, batch_plan
from sce_video.stream.shards import RemoteIndex, open_set


def open_data(
    config: Config, rank: int, ranks: int
) -> tuple[ShardIndex, BatchPlan] | tuple[None, ForeignPlan]:
    """The index, if there is one, and this rank's plan; nothing of it needs torch.

    Raises:
        UsageError: not there, not enough for a batch, or keys that do not go with it.
        SceVideoError: it cannot be fetched or is damaged.
    """
    data = config.data
    if is_foreign(data.shards):
        return None, foreign_plan(config, rank, ranks)
    if data.epoch_samples is not None:
        raise UsageError(
            f"data.epoch_samples={data.epoch_samples}: {data.shards} has an index, which says what "
            "an epoch is; drop the key"
        )
    index = open_set(str(data.shards), Cache.at(data.cache, data.cache_gib))
    if isinstance(index, RemoteIndex):
        _check_cache(index)
    return index, batch_plan(config, index, rank, ranks)


def _check_cache(index: RemoteIndex) -> None:
    """Shards of a window are read in turns: those that do not fit would be fetched endlessly."""
    window = sum(sorted((shard.bytes for shard in index.manifest.shards), reverse=True)[:WINDOW])
    if window > index.cache.limit:
        raise UsageError(
            f"data.cache_gib: {index.cache.limit / 2**30:.3g} GiB hold less than the {WINDOW} "
            f"shards that are mixed with each other ({window / 2**30:.3g} GiB)"
        )
