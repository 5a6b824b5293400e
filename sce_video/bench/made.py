"""Tasks on clips that are made: noise of the shape that a config's would have, and no shard set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import cast

import numpy as np
import torch

from sce_video.config.tasks import AnyConfig
from sce_video.engine.clip_task import ClipTask
from sce_video.engine.pretrain import PretrainTask
from sce_video.engine.runtime import Runtime
from sce_video.engine.supervised import SupervisedTask
from sce_video.errors import UsageError
from sce_video.shardset.index import ShardIndex
from sce_video.shardset.manifest import MANIFEST_NAME
from sce_video.stream.data import planned_data
from sce_video.stream.loader import ClipBatch
from sce_video.stream.order import BatchPlan, schedule

_CLASSES = 400  # of a set that is neither here nor known


@dataclass(frozen=True)
class _Samples:
    """As much of a shard set's index as a task asks for."""

    samples: int
    classes: Sequence[str]

    @property
    def manifest(self) -> _Samples:
        """Names the classes."""
        return self

    def __len__(self) -> int:
        return self.samples


class MadeClips(ClipTask):
    """A task whose clips are noise of the config's shape."""

    plan: BatchPlan
    asked: Callable[[int], None]  # hears of each step, 0-based, when its clips are asked for

    def prepare(self) -> None:
        """Make the clips."""
        generator = torch.Generator().manual_seed(0)
        size, shape = self.plan.micro_batch, self.config.shape
        self._clips = []
        for _, side in self.augment.recipe.crops(shape.size):
            pixels = (size, shape.frames, side, side, 3)
            clip = torch.randint(256, pixels, generator=generator, dtype=torch.uint8)
            if self.config.data.decode == "cuda":
                clip = clip.to(self.runtime.device)
            elif self.runtime.device.type == "cuda":
                clip = clip.pin_memory()
            self._clips.append(clip.permute(0, 1, 4, 2, 3))
        self._labels = torch.randint(max(1, self.plan.classes), (size,), generator=generator)

    def made(self, number: int) -> ClipBatch:
        """Micro-batch ``number``: as a worker hands it over, in one and the same memory."""
        rows = np.arange(self.plan.micro_batch)
        return ClipBatch(list(self._clips), rows, np.full_like(rows, number), self._labels)

    def batches(self, consumed: int) -> Iterator[ClipBatch]:
        """See :class:`ClipTask`; without end."""
        for number in count(consumed // self.plan.micro_batch):
            step, micro = divmod(number, self.config.train.accumulate)
            if micro == 0:
                self.asked(step)
            yield self.made(number)


class _Pretraining(MadeClips, PretrainTask):
    """Pretraining on made clips."""


class _Supervised(MadeClips, SupervisedTask):
    """Training with labels on made clips."""


def make_task(config: AnyConfig, plan: BatchPlan, runtime: Runtime) -> MadeClips:
    """The task of a config, with its clips.

    Args:
        config: of the run.
        plan: of :func:`made_plan`.
        runtime: of this process.
    """
    index = cast(ShardIndex, _Samples(plan.samples, [str(i) for i in range(plan.classes)]))
    kind: type[MadeClips] = _Pretraining if config.task == "pretrain" else _Supervised
    task = kind(config, index, plan, runtime)
    task.prepare()
    return task


def made_plan(config: AnyConfig, steps: int) -> BatchPlan:
    """One process' plan, as long as the set if it is here or known, and of ``steps`` at least."""
    samples, classes = 0, _CLASSES
    try:
        known, _ = planned_data(config, None, 1)
        samples, classes = known.samples, known.classes
    except UsageError:
        if (Path(str(config.data.shards)) / MANIFEST_NAME).is_file():
            raise
    rows = np.arange(max(samples, steps * config.train.batch_size))
    return BatchPlan(
        digest="",
        rows=rows,
        shard_of=np.zeros_like(rows),
        classes=classes,
        **schedule(config, 0, 1),
    )


def still(config: AnyConfig) -> AnyConfig:
    """The config of a run that starts from random weights and stays there."""
    run = config.run.model_copy(update={"init_from": None})
    optim = config.optim.model_copy(update={"lr": 0.0, "warmup_start_lr": 0.0, "final_lr": 0.0})
    return config.model_copy(update={"run": run, "optim": optim})
