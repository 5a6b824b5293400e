"""The pretraining task: two augmented clips a video through the Siamese network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sce_video.config.tasks import PretrainConfig
from sce_video.engine.agreement import StepLoss
from sce_video.engine.clip_task import ClipTask, autocast_dtype, fresh_trunk, start_from, switch_on
from sce_video.engine.optim.schedules import cosine_momentum
from sce_video.errors import UsageError
from sce_video.model.branches import Branch, LabBranch, Siamese, SiameseOutput
from sce_video.model.heads import mlp_head
from sce_video.model.probe import LinearProbe
from sce_video.model.splitbn import convert_split_bn
from sce_video.model.syncbn import convert_sync_bn, rank_group
from sce_video.model.trunks.lab import LabTrunk
from sce_video.model.weights import OpenedEncoder
from sce_video.objectives.build import build_objective
from sce_video.stream.feed import Ready


def build_siamese(
    config: PretrainConfig,
    autocast: torch.dtype | None,
    *,
    samples: int,
    epoch_steps: int,
    classes: int = 0,
    start: OpenedEncoder | None = None,
) -> Siamese:
    """The network with fresh weights from ``run.seed``, the same on every rank.

    Args:
        config: of the run.
        autocast: dtype of the trunk's arithmetic; None = fp32.
        samples: rows of the shard set's index.
        epoch_steps: optimizer steps an epoch.
        classes: of the samples, for a probe beside the network; 0 = none.
        start: what ``run.init_from`` names, where it is open already.
    """
    model, dim = config.model, config.model.projector.dim
    online = build_online(config)
    seed = config.run.seed
    objective = build_objective(
        config.objective, dim=dim, seed=seed, samples=samples, epoch_steps=epoch_steps
    )
    predictor = build_predictor(config)
    heads = {name: head for name, head in online.named_children() if name != "trunk"}
    start_from(config, start, online.trunk, {**heads, "predictor": predictor})
    features: int = online.trunk.features  # type: ignore[assignment]
    probe = LinearProbe(features, classes, seed) if classes else None
    siamese = Siamese(online, predictor, objective, autocast, probe)
    if model.split_bn and siamese.momentum:
        convert_split_bn(siamese.momentum, model.split_bn)
    convert_sync_bn(siamese, rank_group(model.bn_group))
    switch_on(config, online.trunk, *([siamese.momentum.trunk] if siamese.momentum else []))
    return siamese


def build_online(config: PretrainConfig) -> Branch | LabBranch:
    """Trunk and projector with fresh weights; of a Lab trunk's two halves each has a projector."""
    trunk, head = fresh_trunk(config), config.model.projector
    features: int = trunk.features  # type: ignore[assignment]
    if isinstance(trunk, LabTrunk):
        return LabBranch(trunk, [mlp_head(features // 2, **head.model_dump()) for _ in range(2)])
    return Branch(trunk, mlp_head(features, **head.model_dump()))


def build_predictor(config: PretrainConfig) -> nn.Module:
    """The predictor with fresh weights; the identity where ``model.predictor`` is null."""
    dim, head = config.model.projector.dim, config.model.predictor
    return mlp_head(dim, dim, **head.model_dump()) if head else nn.Identity()


class PretrainTask(ClipTask):
    """Pretraining: the Siamese network under an objective."""

    config: PretrainConfig
    module: Siamese

    def _build(self, start: OpenedEncoder | None) -> Siamese:
        """The Siamese network; see :func:`build_siamese`."""
        config, index = self.config, self._index
        if index is None and config.objective.name in ("ir", "cmc"):
            raise UsageError(
                f"objective {config.objective.name} keeps a vector of every sample: it needs "
                "shards with an index (python -m sce_video.shard webdataset makes one)"
            )
        self._outputs: list[SiameseOutput] = []  # of the step's micro-batches
        return build_siamese(
            config,
            autocast_dtype(config, self.runtime),
            samples=0 if index is None else len(index),
            epoch_steps=self.steps_per_epoch,
            classes=len(index.manifest.classes) if index and config.eval.linear else 0,
            start=start,
        )

    def loss(self, engine: Callable[..., Any], ready: Ready, step: int) -> StepLoss:
        """Forward; keys wait for :meth:`end_step`."""
        self.module.objective.start_step(step)
        batch, probe = ready.batch, self.module.probe
        output: SiameseOutput = engine(ready.views, batch.rows, batch.epochs)
        self._outputs.append(output._replace(loss=output.loss.detach()))
        counted = probe.learn(output.features, ready.labels) if probe else {}
        return StepLoss(output.loss, output.parts, batch.bad, batch.names, counted)

    def end_step(self, step: int) -> dict[str, float]:
        """Move momentum encoder, queue and probe, once per optimizer step and after it."""
        m = self.config.model.momentum
        if self.config.model.momentum_schedule == "cosine":
            m = cosine_momentum(step, self.total_steps, m)
        remembered = torch.cat([output.remembered for output in self._outputs], dim=1)
        rows = torch.cat([output.rows for output in self._outputs])
        self._outputs.clear()
        self.module.end_step(remembered, rows, m)
        if self.module.probe:
            self.module.probe.end_step()
        logged = {"momentum": m} if self.module.momentum else {}
        return logged | super().end_step(step)

    def trunk(self) -> nn.Module:
        """The online branch's trunk, ``[B,3,T,H,W]`` to ``[B,F]``."""
        return self.module.online.trunk
