"""Training with labels: a linear layer on a frozen trunk, or the whole network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sce_video.config import SupervisedConfig
from sce_video.engine.clip_task import ClipTask, autocast_dtype, fresh_trunk, start_from
from sce_video.engine.runtime import Runtime
from sce_video.engine.task import StepLoss
from sce_video.engine.zero_layout import gathered
from sce_video.model.classifier import CLASSIFIER_NAME, Classifier, save_classifier
from sce_video.model.compiled import compile_trunk
from sce_video.model.recompute import checkpoint_activations
from sce_video.model.syncbn import convert_sync_bn
from sce_video.shardset.index import ShardIndex
from sce_video.stream.foreign.plan import ForeignPlan
from sce_video.stream.loader import ClipBatch
from sce_video.stream.order import BatchPlan


def build_classifier(
    config: SupervisedConfig, classes: int, autocast: torch.dtype | None = None
) -> Classifier:
    """The network with fresh weights from ``run.seed``, the same on every rank."""
    return Classifier(
        fresh_trunk(config),
        classes,
        dropout=config.head.dropout,
        frozen=config.frozen,
        autocast=autocast,
    )


class SupervisedTask(ClipTask):
    """Training with labels for the trainer (see :class:`sce_video.engine.task.Task`)."""

    config: SupervisedConfig

    def __init__(
        self,
        config: SupervisedConfig,
        index: ShardIndex | None,
        plan: BatchPlan | ForeignPlan,
        runtime: Runtime,
    ) -> None:
        if index is None:
            raise TypeError("labels are in an index")
        super().__init__(config, index, plan, runtime)
        self._classes = index.manifest.classes
        self.module = build_classifier(config, len(self._classes), autocast_dtype(config, runtime))
        start_from(config, self.module.trunk, {"linear": self.module.linear})
        if not config.frozen:
            convert_sync_bn(self.module)
        if config.train.checkpoint_activations:
            checkpoint_activations(self.module.trunk)
        if config.train.compile:
            compile_trunk(self.module.trunk)

    def loss(self, engine: Callable[..., Any], batch: ClipBatch, step: int) -> StepLoss:
        """Cross-entropy of a micro-batch, a clip a video."""
        [clip] = self._views(batch)
        logits: Tensor = engine(clip)
        labels = batch.labels.to(logits.device)
        top1 = (logits.argmax(1) == labels).float().mean()
        loss = F.cross_entropy(logits, labels)
        return StepLoss(loss, {"top1": top1}, batch.bad, batch.names, batch.cpu)

    def end_step(self, step: int) -> dict[str, float]:
        """Nothing moves besides."""
        return {}

    def trunk(self) -> nn.Module:
        """The classifier's."""
        return self.module.trunk

    def save(self, folder: Path) -> None:
        """Leave encoder and classifier in the run's ``folder``; a collective call."""
        super().save(folder)
        with gathered(self.module):
            if self.runtime.main:
                path = folder / CLASSIFIER_NAME
                save_classifier(path, self.module, self.spec, self._classes, self.config.task)
