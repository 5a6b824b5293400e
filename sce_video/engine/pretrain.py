"""The pretraining task: two augmented clips a video through the Siamese network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sce_video.augment.apply import apply
from sce_video.augment.draw import draw
from sce_video.augment.recipes import recipe
from sce_video.config import Config
from sce_video.engine.diagnostics import view_grid
from sce_video.engine.optim.schedules import cosine_momentum, scaled_lr
from sce_video.engine.runtime import Runtime
from sce_video.engine.task import StepLoss
from sce_video.model.encoder import EncoderSpec
from sce_video.model.heads import predictor, projector
from sce_video.model.memory import Queue
from sce_video.model.siamese import Encoder, Siamese, SiameseOutput
from sce_video.model.syncbn import convert_sync_bn
from sce_video.model.trunks import build_trunk
from sce_video.objectives.sce import SCE
from sce_video.shard.format import ShardIndex
from sce_video.stream.clips import ClipTiming, RandomClips
from sce_video.stream.crops import RandomResizedCrop
from sce_video.stream.loader import ClipBatch, ClipDataset, load
from sce_video.stream.order import BatchPlan
from sce_video.stream.shards import ShardReader


def build_siamese(config: Config, autocast: torch.dtype | None) -> Siamese:
    """The network with fresh weights from ``run.seed``, the same on every rank."""
    torch.manual_seed(config.run.seed)
    model, objective = config.model, config.objective
    trunk = build_trunk(model.trunk, model.width)
    features: int = trunk.features  # type: ignore[assignment]
    head = projector(features, model.projector.hidden, model.projector.dim)
    siamese = Siamese(
        Encoder(trunk, head),
        predictor(model.projector.dim, model.predictor.hidden)
        if model.predictor
        else nn.Identity(),
        Queue(model.projector.dim, objective.queue, config.run.seed),
        SCE(objective.coeff, objective.temp, objective.temp_m, objective.positive_in_target),
        autocast,
    )
    convert_sync_bn(siamese)
    return siamese


class PretrainTask:
    """SCE pretraining for the trainer (see :class:`sce_video.engine.task.Task`)."""

    def __init__(
        self, config: Config, index: ShardIndex, plan: BatchPlan, runtime: Runtime
    ) -> None:
        self.config, self.runtime, self.plan = config, runtime, plan
        self.steps_per_epoch = plan.steps_per_epoch
        self.total_steps = plan.steps_per_epoch * plan.epochs
        precision = config.train.precision
        bf16 = precision == "bf16" or (precision == "auto" and runtime.device.type == "cuda")
        self.module: Siamese = build_siamese(config, torch.bfloat16 if bf16 else None)
        self._recipes = recipe(
            config.augment.recipe, config.augment.color_strength, config.augment.flip
        )
        self._reader = ShardReader(index)
        self._keys: list[Tensor] = []
        view = self._recipes[0]
        self.spec = EncoderSpec(
            trunk=config.model.trunk,
            width=config.model.width,
            frames=config.clip.frames,
            seconds=config.clip.seconds,
            size=config.clip.size,
            mean=view.mean,
            std=view.std,
        )

    def batches(self, consumed: int) -> Iterator[ClipBatch]:
        """Micro-batches of uint8 clips from worker processes."""
        clip, augment = self.config.clip, self.config.augment
        sampler = RandomClips(
            crops=((RandomResizedCrop(augment.area, augment.aspect), clip.size),) * clip.clips,
            timing=ClipTiming(clip.frames, clip.seconds, clip.grid, clip.max_gap),
            difference=augment.temporal_difference,
            seed=self.config.run.seed,
        )
        dataset = ClipDataset(
            self._reader,
            sampler,
            substitutes=self.plan.rows,
            antialias=augment.antialias,
            decode=self.config.data.decode,
        )
        return load(
            dataset,
            self.plan.micro_batches(consumed),
            workers=self.config.data.workers,
            pin=self.runtime.device.type == "cuda",
        )

    def _views(self, batch: ClipBatch) -> list[Tensor]:
        views = []
        for i, (clips, view) in enumerate(zip(batch.views, self._recipes, strict=True)):
            params = draw(view, self.config.run.seed, batch.epochs, batch.rows, i)
            device = self.runtime.device
            views.append(apply(clips.to(device, non_blocking=True), params.to(device), view))
        return views

    def loss(self, engine: Callable[..., Any], batch: ClipBatch) -> StepLoss:
        """Augment on the device, forward; keys wait for :meth:`end_step`."""
        output: SiameseOutput = engine(self._views(batch))
        self._keys.append(output.keys)
        names = [self._reader.name(int(row)) for row in batch.rows]
        return StepLoss(output.loss, output.parts, batch.bad, names, batch.cpu)

    def end_step(self, step: int) -> dict[str, float]:
        """Momentum encoder and queue, once per optimizer step and after it."""
        m = cosine_momentum(step, self.total_steps, self.config.model.momentum)
        self.module.end_step(torch.cat(self._keys), m)
        self._keys.clear()
        return {"momentum": m}

    def trunk(self) -> nn.Module:
        """The online trunk."""
        return self.module.online.trunk

    def picture(self, batch: ClipBatch) -> Tensor | None:
        """Both views of the first clips of a batch."""
        return view_grid(self._views(batch), self._recipes)

    def summary(self) -> str:
        """One screen: what is about to be trained."""
        config, clip, optim = self.config, self.config.clip, self.config.optim
        trained = sum(p.numel() for p in self.module.parameters() if p.requires_grad)
        lr = scaled_lr(optim.lr, optim.lr_scaling, config.train.batch_size)
        samples, queue = len(self.plan.rows), config.objective.queue
        lines = [
            f"model      {config.model.trunk} width {config.model.width}, {trained:,} parameters, "
            f"ZeRO-{config.deepspeed.zero_optimization.stage}, {self.runtime.ranks} rank(s) "
            f"on {self.runtime.device.type}",
            f"data       {config.data.shards} {config.data.split or 'all'}: {samples:,} videos",
            f"views      {clip.clips} clips of {clip.frames} frames over {clip.seconds} s, "
            f"{clip.size} px",
            f"objective  SCE coeff {config.objective.coeff}, temp {config.objective.temp}, "
            f"temp_m {config.objective.temp_m}, queue {queue:,}",
            f"steps      {self.total_steps:,} = {config.train.epochs} epochs x "
            f"{self.steps_per_epoch} of batch {config.train.batch_size}; "
            f"{optim.name} lr {lr:g} after scaling",
        ]
        if clip.clips * samples < 4 * queue:
            lines.append(
                f"warning    the queue of {queue:,} holds more than a quarter of the set's "
                f"{clip.clips * samples:,} keys: a video meets its own past as a negative"
            )
        return "\n".join(lines)
