"""Training with labels: a linear layer on a frozen trunk, or the whole network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sce_video.config.tasks import SupervisedConfig
from sce_video.engine.agreement import StepLoss
from sce_video.engine.clip_task import ClipTask, autocast_dtype, fresh_trunk, start_from, switch_on
from sce_video.engine.zero_layout import gathered
from sce_video.model.classifier import CLASSIFIER_NAME, Classifier, save_classifier
from sce_video.model.syncbn import convert_sync_bn, rank_group
from sce_video.model.weights import OpenedEncoder
from sce_video.stream.feed import Ready


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
    """Training with labels: cross-entropy over the set's classes."""

    config: SupervisedConfig
    module: Classifier

    def _build(self, start: OpenedEncoder | None) -> Classifier:
        """The classifier over the set's classes; see :func:`build_classifier`."""
        if self._index is None:
            raise TypeError("labels are in an index")
        self._classes, config = self._index.manifest.classes, self.config
        net = build_classifier(config, len(self._classes), autocast_dtype(config, self.runtime))
        start_from(config, start, net.trunk, {"linear": net.linear})
        if not config.frozen:
            convert_sync_bn(net, rank_group(config.model.bn_group))
        switch_on(config, net.trunk)
        return net

    def loss(self, engine: Callable[..., Any], ready: Ready, step: int) -> StepLoss:
        """Cross-entropy of a micro-batch, a clip a video."""
        [clip] = ready.views
        logits: Tensor = engine(clip)
        top1 = (logits.argmax(1) == ready.labels).float().mean()
        loss = F.cross_entropy(logits, ready.labels)
        return StepLoss(loss, {"top1": top1}, ready.batch.bad, ready.batch.names, {})

    def trunk(self) -> nn.Module:
        """The trunk below the linear layer, ``[B,3,T,H,W]`` to ``[B,F]``."""
        return self.module.trunk

    def save(self, folder: Path) -> None:
        """Leave encoder and classifier in the run's ``folder``; a collective call."""
        super().save(folder)
        with gathered(self.module):
            if self.runtime.main:
                path = folder / CLASSIFIER_NAME
                save_classifier(path, self.module, self.spec, self._classes, self.config.task)
