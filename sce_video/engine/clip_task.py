"""What all tasks on clips share: the encoder's description, its first weights, the batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sce_video.augment.apply import Augmenter
from sce_video.augment.kernels import choose_kernels
from sce_video.config.recipes import Recipe
from sce_video.config.tasks import Config
from sce_video.engine.agreement import StepLoss
from sce_video.engine.pictures import view_grid
from sce_video.engine.runtime import Runtime
from sce_video.engine.zero_layout import gathered
from sce_video.errors import UsageError
from sce_video.model.compiled import compile_trunks
from sce_video.model.encoder import ENCODER_NAME, build_encoder, encoder_spec, save_encoder
from sce_video.model.recompute import checkpoint_activations
from sce_video.model.syncbn import average_statistics
from sce_video.model.weights import OpenedEncoder, open_encoder
from sce_video.shardset.index import ShardIndex
from sce_video.stream.clips import ClipTiming, RandomClips
from sce_video.stream.feed import DeviceFeed, Ready
from sce_video.stream.foreign.plan import ForeignPlan
from sce_video.stream.loader import ClipBatch, ClipDataset, load, never
from sce_video.stream.order import BatchPlan
from sce_video.stream.reader import ShardReader

log = logging.getLogger("sce_video")

_NAMED = 4  # tensors that a message names


def fresh_trunk(config: Config) -> nn.Module:
    """The trunk with random weights from ``run.seed``."""
    torch.manual_seed(config.run.seed)
    return build_encoder(encoder_spec(config))


def find_start(config: Config) -> OpenedEncoder | None:
    """The encoder that ``run.init_from`` names; None without one.

    Raises:
        UsageError: no encoder there, or of another trunk, width or colour than the run's.
    """
    path = config.run.init_from
    if path is None:
        return None
    try:
        found = open_encoder(path)
    except UsageError as error:
        raise UsageError(f"run.init_from: {error}") from error
    for name in ("trunk", "width", "colour"):
        its, ours = getattr(found.spec, name), getattr(encoder_spec(config), name)
        if its != ours:
            own = name in type(config.model).model_fields  # a pretraining's colour is not
            key = f"leave out model.{name}" if own else "give another objective"
            raise UsageError(
                f"run.init_from={path}: its trunk has {name} {its}, the run's {ours}; "
                f"{key}, or take another encoder"
            )
    return found


def start_from(
    config: Config, found: OpenedEncoder | None, trunk: nn.Module, others: dict[str, nn.Module]
) -> None:
    """Give ``trunk`` the weights that ``run.init_from`` names, if any; logs what did not get any.

    Args:
        config: of the run.
        found: of :func:`find_start`; None = the trunk stays fresh.
        trunk: with fresh weights.
        others: what is trained beside it, by name; it stays fresh.
    """
    if found is None:
        return
    tensors = found.trunk.state_dict()
    trunk.load_state_dict(tensors)
    fresh = [f"{name}.{key}" for name, module in others.items() for key in module.state_dict()]
    named = ", ".join(fresh[:_NAMED]) + (", ..." if len(fresh) > _NAMED else "")
    log.info(
        "run.init_from=%s: loaded all %d tensors of the trunk; %d others start fresh: %s",
        config.run.init_from,
        len(tensors),
        len(fresh),
        named or "none",
    )
    if found.note:
        log.info("%s", found.note)
    its, ours = ((spec.mean, spec.std) for spec in (found.spec, encoder_spec(config)))
    if its != ours:
        log.warning("that trunk was fed with other mean and std: %s, here %s", its, ours)


def switch_on(config: Config, trunk: nn.Module, *others: nn.Module) -> None:
    """Compile the trained ``trunk`` and others, and checkpoint its activations; where asked."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.compiles(cuda=device.type == "cuda"):
        must, stage = config.train.compile is True, config.deepspeed.zero_optimization.stage
        compile_trunks((trunk, *others), device, stage, must=must)
    if config.train.checkpoint_activations:
        checkpoint_activations(trunk)


def view_recipe(config: Config) -> Recipe:
    """The recipe with the config's own values, for as many views as the run takes."""
    recipe = config.augment.find_recipe()
    return replace(recipe, views=recipe.views[: config.views])


def runs_bf16(config: Config, *, cuda: bool) -> bool:
    """Whether the trunk runs under bf16 autocast, by ``train.precision``; else it is fp32."""
    return config.train.precision == "bf16" or (config.train.precision == "auto" and cuda)


def autocast_dtype(config: Config, runtime: Runtime) -> torch.dtype | None:
    """The dtype that the trunk runs in under autocast; None = fp32, without autocast."""
    return torch.bfloat16 if runs_bf16(config, cuda=runtime.device.type == "cuda") else None


class ClipTask:
    """A thing to train on clips: what the loop asks of it, and what all tasks do alike.

    A new task says what it trains (``_build``, :meth:`trunk`), its :meth:`loss`, and what moves
    after a step (:meth:`end_step`).
    """

    module: nn.Module  # goes into the engine, with all that a checkpoint must hold
    stopped: Callable[[], bool] = staticmethod(never)
    """Asked while clips are waited for: whether to give that up, as the run is to end."""

    def __init__(
        self,
        config: Config,
        index: ShardIndex | None,
        plan: BatchPlan | ForeignPlan,
        runtime: Runtime,
        start: OpenedEncoder | None = None,
    ) -> None:
        """``start``: of :func:`find_start`, where a run starts."""
        self.config, self.runtime, self.plan, self._index = config, runtime, plan, index
        self.steps_per_epoch = plan.steps_per_epoch
        self.total_steps = plan.steps_per_epoch * plan.epochs
        self.spec = encoder_spec(config)
        self.module = self._build(start)
        recipe, shape, device = view_recipe(config), config.shape, runtime.device
        clips = config.views * self.total_steps * config.train.batch_size // runtime.ranks
        kernels = choose_kernels(recipe, shape.frames, shape.size, device, clips)
        self.augment = Augmenter(recipe, config.run.seed, device, kernels)

    def _build(self, start: OpenedEncoder | None) -> nn.Module:
        """What is trained, with its first weights."""
        raise NotImplementedError

    def batches(self, consumed: int) -> Iterator[ClipBatch]:
        """This rank's micro-batches of uint8 clips after ``consumed`` global samples."""
        workers, pin = self.config.data.workers, self.runtime.device.type == "cuda"
        if isinstance(self.plan, ForeignPlan):
            if consumed and self.runtime.main:
                log.info("tars without an index: going on with a fresh order of all of them")
            from sce_video.stream.foreign.clips import ForeignClips  # webdataset, for tars alone

            antialias = self.config.augment.antialias
            stream = ForeignClips(self.plan, self._sampler(), consumed, antialias=antialias)
            return load(stream, None, workers=workers, pin=pin, stopped=self.stopped)
        batches = self.plan.micro_batches(consumed)
        return load(self.dataset(), batches, workers=workers, pin=pin, stopped=self.stopped)

    def dataset(self) -> ClipDataset:
        """Clips by rows of the index, as workers make them."""
        if self._index is None or isinstance(self.plan, ForeignPlan):
            raise TypeError("a plan by rows needs their index")
        return ClipDataset(
            ShardReader(self._index),
            self._sampler(),
            substitutes=self.plan.rows,
            antialias=self.config.augment.antialias,
            decode=self.config.data.decode,
        )

    def _sampler(self) -> RandomClips:
        clip, recipe = self.config.shape, self.augment.recipe
        return RandomClips(
            crops=recipe.crops(clip.size),
            timing=ClipTiming(clip.frames, clip.seconds, clip.grid, clip.max_gap),
            difference=recipe.temporal_difference if clip.frames > 1 else 0.0,
            seed=self.config.run.seed,
        )

    def feed(self, consumed: int) -> DeviceFeed:
        """This rank's micro-batches on the device after ``consumed`` global samples."""
        batches, count = self.batches(consumed), self.config.train.accumulate
        return DeviceFeed(batches, count, self.views, self.runtime.device)

    def views(self, batch: ClipBatch) -> list[Tensor]:
        """The augmented views of a micro-batch, on the device."""
        return self.augment(batch.views, batch.epochs, batch.rows)

    def loss(self, engine: Callable[..., Any], ready: Ready, step: int) -> StepLoss:
        """Forward a micro-batch of optimizer step ``step`` (0-based) through ``engine``."""
        raise NotImplementedError

    def end_step(self, step: int) -> dict[str, float]:
        """After optimizer step ``step`` (0-based): move what it does not; scalars to log."""
        if self.config.model.bn_group:
            average_statistics(self.module)
        return {}

    def picture(self, views: list[Tensor]) -> Tensor:
        """What the net sees: all views of a micro-batch's first clips, uint8 ``[3,H,W]``."""
        return view_grid(views, *self.augment.recipe.stats)

    def trunk(self) -> nn.Module:
        """The part of the network that sees the views, and becomes the encoder."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Leave the encoder in the run's ``folder``; a collective call."""
        with gathered(self.trunk()):
            if self.runtime.main:
                save_encoder(folder / ENCODER_NAME, self.trunk(), self.spec)
