"""The order of samples: a pure function of (seed, epoch, shard set), independent of ranks.

The whole state of streaming is one integer, the global number of samples consumed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sce_video.config.tasks import Config
from sce_video.errors import UsageError
from sce_video.shardset.index import ShardIndex
from sce_video.stream.draws import keyed_generator

WINDOW = 16
"""Shards that are mixed with each other; keeps reads near each other on slow storage."""


def epoch_order(
    shard_of: NDArray[np.int64], seed: int, epoch: int, digest: str, window: int = WINDOW
) -> NDArray[np.int64]:
    """Order in which an epoch visits the samples.

    The shards are permuted and cut into windows of ``window``; samples are permuted inside their
    window.

    Args:
        shard_of: shard number of each sample ``[n]``, counted from 0.
        seed: of the run.
        epoch: 0-based.
        digest: of the manifest.
        window: shards a window, > 0.

    Returns:
        A permutation of ``0..n-1``.
    """
    generator = keyed_generator(f"order/{seed}/{epoch}/{digest}")
    shards = int(shard_of.max()) + 1
    window_of_shard = generator.permutation(shards) // window
    shuffled = generator.permutation(len(shard_of))
    windows = window_of_shard[shard_of[shuffled]]
    if shards // window < 2**16:
        windows = windows.astype(np.uint16)  # NumPy sorts 16 bits by radix: 10 M ids in < 1 s
    order: NDArray[np.int64] = shuffled[np.argsort(windows, kind="stable")]
    return order


@dataclass(frozen=True)
class Position:
    """One sample of one batch."""

    epoch: int
    row: int  # of the index


@dataclass(frozen=True, kw_only=True)
class TrainingPlan(ABC):
    """How many batches there are, the same on every rank, and what each rank does of them."""

    digest: str  # of the data: what an order and a checkpoint are keyed by
    seed: int
    epochs: int
    batch_size: int  # global: samples an optimizer step
    accumulate: int = 1  # micro-batches an optimizer step
    rank: int = 0
    ranks: int = 1
    classes: int = 0  # of the set

    def __post_init__(self) -> None:
        if self.samples < self.batch_size:
            raise UsageError(
                f"an epoch of {self.samples} samples has no full batch of {self.batch_size}: "
                "lower train.batch_size"
            )
        if self.batch_size % (self.accumulate * self.ranks):
            raise UsageError(
                f"train.batch_size {self.batch_size} does not divide by "
                f"train.accumulate {self.accumulate} x {self.ranks} ranks"
            )

    @property
    @abstractmethod
    def samples(self) -> int:
        """Samples an epoch."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps an epoch, the same on every rank."""
        return self.samples // self.batch_size

    @property
    def micro_batch(self) -> int:
        """Samples of one rank's micro-batch."""
        return self.batch_size // (self.accumulate * self.ranks)


def schedule(config: Config, rank: int, ranks: int) -> dict[str, int]:
    """What every :class:`TrainingPlan` takes of a run's configuration and ranks.

    Raises:
        UsageError: groups of ranks for BN that do not divide them.
    """
    if ranks % (config.model.bn_group or 1):
        raise UsageError(f"model.bn_group {config.model.bn_group} does not divide {ranks} ranks")
    return {
        "seed": config.run.seed,
        "epochs": config.train.epochs,
        "batch_size": config.train.batch_size,
        "accumulate": config.train.accumulate,
        "rank": rank,
        "ranks": ranks,
    }


@dataclass(frozen=True, kw_only=True)
class BatchPlan(TrainingPlan):
    """Which samples each micro-batch of a rank holds, from any point to the end of training.

    Global batches do not depend on the number of ranks or workers: rank r takes slice r.
    Samples past the last full batch of an epoch are left out.
    """

    rows: NDArray[np.int64]  # rows of the index that take part
    shard_of: NDArray[np.int64]  # their shard numbers

    @property
    def samples(self) -> int:
        """Samples an epoch."""
        return len(self.rows)

    def micro_batches(self, consumed: int) -> Iterator[list[Position]]:
        """This rank's micro-batches after ``consumed`` samples (a multiple of the batch size)."""
        first, start = divmod(consumed // self.batch_size, self.steps_per_epoch)
        local = self.micro_batch
        for epoch in range(first, self.epochs):
            order = self.rows[epoch_order(self.shard_of, self.seed, epoch, self.digest)]
            for step in range(start if epoch == first else 0, self.steps_per_epoch):
                for micro in range(self.accumulate):
                    slot = (step * self.accumulate + micro) * self.ranks + self.rank
                    rows = order[slot * local : (slot + 1) * local]
                    yield [Position(epoch, row) for row in rows.tolist()]


def batch_plan(config: Config, index: ShardIndex, rank: int, ranks: int) -> BatchPlan:
    """The plan of a run; checks split, batch size, media and labels.

    Raises:
        UsageError: an unknown split, no full batch, images where clips are asked for or the
            reverse, a grid on shards that are not layered, no labels where the task needs them.
    """
    rows = index.rows(config.data.split, "data.split=null takes all")
    clip = config.clip
    if index.images and clip:
        raise UsageError(
            f"{index.name}: holds images; give clip=null, an image recipe and augment.size"
        )
    if not index.images and not clip:
        raise UsageError(f"{index.name}: holds videos; give clip.frames, .seconds and .size")
    if clip and clip.grid > 1 and index.manifest.encode.get("mode") != "layered":
        raise UsageError(
            f"{index.name}: clip.grid={clip.grid} needs shards made with --encode layered"
        )
    if clip and config.data.on_short == "drop":
        rows = rows[index.numbers("duration")[rows] >= clip.seconds]
        if not len(rows):
            raise UsageError(
                f"{index.name}: all videos are shorter than clip.seconds={clip.seconds:g}, and "
                "data.on_short=drop leaves them out"
            )
    _, shard_of = np.unique(index.shard_numbers()[rows], return_inverse=True)
    plan = BatchPlan(
        rows=rows,
        shard_of=shard_of.astype(np.int64),
        classes=len(index.manifest.classes),
        digest=index.digest,
        **schedule(config, rank, ranks),
    )
    none = rows[index.numbers("label")[rows] < 0]
    if config.task != "pretrain" and len(none):
        raise UsageError(
            f"{index.name}: {len(none)} of {len(rows)} samples have no label, such as "
            f"{index.strings('key')[none[0]]}; give a split that is labelled"
        )
    return plan
