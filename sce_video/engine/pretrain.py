"""The pretraining task: two augmented clips a video through the Siamese network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sce_video.augment.apply import Augmenter
from sce_video.augment.kernels import choose_kernels
from sce_video.augment.recipes import Recipe, find_recipe
from sce_video.config import Config
from sce_video.engine.diagnostics import view_grid
from sce_video.engine.optim.schedules import cosine_momentum
from sce_video.engine.runtime import Runtime
from sce_video.engine.task import StepLoss
from sce_video.errors import UsageError
from sce_video.model.compiled import compile_trunk
from sce_video.model.encoder import EncoderSpec, build_encoder
from sce_video.model.heads import mlp_head
from sce_video.model.recompute import checkpoint_activations
from sce_video.model.siamese import Encoder, LabEncoder, Siamese, SiameseOutput
from sce_video.model.splitbn import convert_split_bn
from sce_video.model.syncbn import convert_sync_bn
from sce_video.model.trunks.lab import LabTrunk
from sce_video.objectives.build import build_objective
from sce_video.shard.format import ShardIndex
from sce_video.stream.clips import ClipTiming, RandomClips
from sce_video.stream.foreign import ForeignPlan
from sce_video.stream.loader import ClipBatch, ClipDataset, load
from sce_video.stream.order import BatchPlan
from sce_video.stream.pipeline import ForeignClips
from sce_video.stream.shards import ShardReader

log = logging.getLogger("sce_video")


def encoder_spec(config: Config) -> EncoderSpec:
    """What the run's encoder is and sees."""
    mean, std = find_recipe(config.augment.recipe).stats
    return EncoderSpec(
        trunk=config.model.trunk,
        width=config.model.width,
        colour="lab" if config.objective.name == "cmc" else "rgb",
        frames=config.shape.frames,
        seconds=config.shape.seconds,
        size=config.shape.size,
        mean=mean,
        std=std,
    )


def fresh_trunk(config: Config) -> nn.Module:
    """The trunk as training starts with it."""
    torch.manual_seed(config.run.seed)
    return build_encoder(encoder_spec(config))


def build_siamese(
    config: Config, autocast: torch.dtype | None, *, samples: int, epoch_steps: int
) -> Siamese:
    """The network with fresh weights from ``run.seed``, the same on every rank.

    Args:
        config: of the run.
        autocast: dtype of the trunk's arithmetic; None = fp32.
        samples: rows of the shard set's index.
        epoch_steps: optimizer steps an epoch.
    """
    model, dim = config.model, config.model.projector.dim
    online = build_online(config)
    objective = build_objective(
        config.objective,
        dim=dim,
        seed=config.run.seed,
        samples=samples,
        epoch_steps=epoch_steps,
    )
    siamese = Siamese(
        online,
        build_predictor(config),
        objective,
        autocast,
    )
    if model.split_bn and siamese.momentum:
        convert_split_bn(siamese.momentum, model.split_bn)
    convert_sync_bn(siamese)
    if config.train.checkpoint_activations:
        checkpoint_activations(siamese.online.trunk)
    if config.train.compile:
        for branch in (siamese.online, siamese.momentum):
            if branch is not None:
                compile_trunk(branch.trunk)
    return siamese


def build_online(config: Config) -> Encoder | LabEncoder:
    """Trunk and projector, fresh."""
    trunk, head = fresh_trunk(config), config.model.projector
    features: int = trunk.features  # type: ignore[assignment]
    if isinstance(trunk, LabTrunk):
        return LabEncoder(trunk, [mlp_head(features // 2, **head.model_dump()) for _ in range(2)])
    return Encoder(trunk, mlp_head(features, **head.model_dump()))


def build_predictor(config: Config) -> nn.Module:
    """The predictor, fresh; the identity if there is none."""
    dim, head = config.model.projector.dim, config.model.predictor
    return mlp_head(dim, dim, **head.model_dump()) if head else nn.Identity()


def view_recipe(config: Config) -> Recipe:
    """The recipe with the config's own values, for the views that the objective takes."""
    augment = config.augment
    recipe = find_recipe(
        augment.recipe,
        flip=augment.flip,
        area=augment.area,
        aspect=augment.aspect,
        temporal_difference=augment.temporal_difference,
    )
    return replace(recipe, views=recipe.views[: config.views])


class PretrainTask:
    """Pretraining for the trainer (see :class:`sce_video.engine.task.Task`)."""

    def __init__(
        self,
        config: Config,
        index: ShardIndex | None,
        plan: BatchPlan | ForeignPlan,
        runtime: Runtime,
    ) -> None:
        if index is None and config.objective.name in ("ir", "cmc"):
            raise UsageError(
                f"objective {config.objective.name} keeps a vector of every sample: it needs "
                "shards with an index (python -m sce_video.shard webdataset makes one)"
            )
        self.config, self.runtime, self.plan = config, runtime, plan
        self.steps_per_epoch = plan.steps_per_epoch
        self.total_steps = plan.steps_per_epoch * plan.epochs
        precision = config.train.precision
        bf16 = precision == "bf16" or (precision == "auto" and runtime.device.type == "cuda")
        self.module: Siamese = build_siamese(
            config,
            torch.bfloat16 if bf16 else None,
            samples=0 if index is None else len(index),
            epoch_steps=plan.steps_per_epoch,
        )
        self._augment = self._augmenter()
        self._index = index
        self._outputs: list[SiameseOutput] = []  # of the step's micro-batches
        self.spec = encoder_spec(config)

    def batches(self, consumed: int) -> Iterator[ClipBatch]:
        """Micro-batches of uint8 clips from worker processes."""
        clip, recipe = self.config.shape, self._augment.recipe
        sampler = RandomClips(
            crops=recipe.crops(clip.size),
            timing=ClipTiming(clip.frames, clip.seconds, clip.grid, clip.max_gap),
            difference=recipe.temporal_difference if clip.frames > 1 else 0.0,
            seed=self.config.run.seed,
        )
        antialias = self.config.augment.antialias
        workers, pin = self.config.data.workers, self.runtime.device.type == "cuda"
        if isinstance(self.plan, ForeignPlan):
            if consumed and self.runtime.main:
                log.info("tars without an index: going on with a fresh order of all of them")
            stream = ForeignClips(self.plan, sampler, consumed, antialias=antialias)
            return load(stream, None, workers=workers, pin=pin)
        if self._index is None:
            raise TypeError("a plan by rows needs their index")
        dataset = ClipDataset(
            ShardReader(self._index),
            sampler,
            substitutes=self.plan.rows,
            antialias=antialias,
            decode=self.config.data.decode,
        )
        return load(dataset, self.plan.micro_batches(consumed), workers=workers, pin=pin)

    def _augmenter(self) -> Augmenter:
        config, recipe = self.config, view_recipe(self.config)
        clips = config.views * self.total_steps * config.train.batch_size // self.runtime.ranks
        kernels = choose_kernels(
            recipe, config.shape.frames, config.shape.size, self.runtime.device, clips
        )
        return Augmenter(recipe, config.run.seed, self.runtime.device, kernels)

    def _views(self, batch: ClipBatch) -> list[Tensor]:
        return self._augment(batch.views, batch.epochs, batch.rows)

    def loss(self, engine: Callable[..., Any], batch: ClipBatch, step: int) -> StepLoss:
        """Augment on the device, forward; keys wait for :meth:`end_step`."""
        self.module.objective.start_step(step)
        output: SiameseOutput = engine(self._views(batch), batch.rows, batch.epochs)
        self._outputs.append(output._replace(loss=output.loss.detach()))
        return StepLoss(output.loss, output.parts, batch.bad, batch.names, batch.cpu)

    def end_step(self, step: int) -> dict[str, float]:
        """Momentum encoder and queue, once per optimizer step and after it."""
        m = self.config.model.momentum
        if self.config.model.momentum_schedule == "cosine":
            m = cosine_momentum(step, self.total_steps, m)
        remembered = torch.cat([output.remembered for output in self._outputs], dim=1)
        rows = torch.cat([output.rows for output in self._outputs])
        self._outputs.clear()
        self.module.end_step(remembered, rows, m)
        return {"momentum": m} if self.module.momentum else {}

    def trunk(self) -> nn.Module:
        """The online trunk."""
        return self.module.online.trunk

    def picture(self, batch: ClipBatch) -> Tensor | None:
        """Both views of the first clips of a batch."""
        return view_grid(self._views(batch), *self._augment.recipe.stats)
