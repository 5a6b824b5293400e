"""What a run will do and what it needs: printed by ``--dry-run`` and at the head of every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sce_video.config.objectives import Objective as Section
from sce_video.config.objectives import RingKeys
from sce_video.config.tasks import AnyConfig, Config, PretrainConfig
from sce_video.engine.clip_task import find_start, runs_bf16, view_recipe
from sce_video.engine.cost import cost, gpu_hours
from sce_video.engine.ds_config import deepspeed_config
from sce_video.engine.optim.schedules import scaled_lr
from sce_video.engine.ranks import place
from sce_video.engine.resume import Resume, find_resume, last_step, nothing_to_do
from sce_video.engine.run_folder import RunFolder
from sce_video.shardset.index import open_shards
from sce_video.stream.data import is_here, open_held_out, planned_data
from sce_video.stream.foreign.plan import ForeignPlan
from sce_video.stream.order import TrainingPlan
from sce_video.stream.remote.files import is_remote
from sce_video.text import printable


def describe(
    config: AnyConfig,
    plan: TrainingPlan,
    *,
    cuda: bool,
    note: str = "",
    resume: Resume | None = None,
) -> str:
    """One screen: what is about to be trained.

    Args:
        config: of the run.
        plan: of any rank.
        cuda: whether it will run on GPUs.
        note: on the data.
        resume: where the run goes on; None = it starts.
    """
    bf16 = runs_bf16(config, cuda=cuda)
    step, optim, train = cost(config, plan, bf16=bf16, cuda=cuda), config.optim, config.train
    stage = config.deepspeed.zero_optimization.stage
    total = plan.steps_per_epoch * plan.epochs
    warmup = round(optim.warmup_epochs * plan.steps_per_epoch)
    then = f"cosine to {optim.final_lr:g}"
    if optim.decay_epochs:
        then = f"x 0.1 at epochs {list(optim.decay_epochs)}"
    steps = f"{total:,} = {plan.epochs} epochs x {plan.steps_per_epoch:,}"
    if config.run.max_steps and config.run.max_steps < total:
        steps = f"{config.run.max_steps:,} (run.max_steps), on the schedules of {steps}"
    if config.run.max_hours:
        steps += f", within {config.run.max_hours:g} hours (run.max_hours)"
    start = f"checkpoint {resume.checkpoint}" if resume else config.run.init_from
    run, hours = step.flops * total, gpu_hours(config, step, total, bf16=bf16)
    asked = f"about {hours}" if hours.hours >= 0.01 else "less than 0.01 H200-hours"
    lr = scaled_lr(optim.lr, optim.lr_scaling, train.batch_size)
    lines = [
        f"model      {config.model.trunk} width {config.model.width}, {step.trained:,} parameters, "
        f"ZeRO-{stage}, {plan.ranks} rank(s) on {'cuda' if cuda else 'cpu'}, "
        f"{'bf16 autocast' if bf16 else 'fp32'}",
        f"data       {_data(config, plan, note)}",
        f"views      {_views(config)}",
        f"start      {start or 'random weights'}",
        *_task_lines(config, plan),
        *_held_out_line(config),
        *_compiled_line(config, cuda=cuda),
        f"batch      {train.batch_size} = {plan.ranks} rank(s) x {train.accumulate} "
        f"micro-batch(es) of {plan.micro_batch}",
        f"steps      {steps}",
        f"rate       {optim.name} lr {optim.lr:g}, {lr:g} after scaling ({optim.lr_scaling}), "
        f"warm-up {warmup:,} steps, {then}",
        f"memory     a rank: {_sum(step.memory, 2**30, 'GiB')}",
        *([f"network    a rank and step: {_sum(step.sent, 1e6, 'MB')}"] if plan.ranks > 1 else []),
        f"work       {step.flops / train.batch_size / 1e9:.3g} GFLOP a sample, {run:.2g} FLOP in "
        f"all: {asked}",
    ]
    lines += [f"warning    {text}" for text in _warnings(config, plan)]
    return "\n".join(map(printable, lines))


def _warnings(config: AnyConfig, plan: TrainingPlan) -> list[str]:
    """What is allowed and seldom meant."""
    found = []
    if isinstance(config, PretrainConfig) and (queue := getattr(config.objective, "queue", None)):
        keys = config.objective.queued * plan.samples
        if keys < 4 * queue:
            found.append(
                f"the queue of {queue:,} holds more than a quarter of the set's "
                f"{keys:,} keys: a video meets its own past as a negative"
            )
    if config.optim.warmup_epochs >= plan.epochs:
        found.append(
            f"the learning rate warms up for {config.optim.warmup_epochs:g} epochs, and the run "
            f"has {plan.epochs}: lower optim.warmup_epochs"
        )
    return found


def _task_lines(config: AnyConfig, plan: TrainingPlan) -> list[str]:
    """What only pretraining has, or only training with labels."""
    if isinstance(config, PretrainConfig):
        return [f"objective  {_described(config.objective)}"]
    trunk = "frozen" if config.frozen else "trained"
    return [
        f"head       linear layer of {plan.classes} classes, dropout {config.head.dropout:g}, "
        f"on the {trunk} trunk"
    ]


def _held_out_line(config: Config) -> list[str]:
    """What is looked at while training."""
    watch = config.eval
    if watch.every is None:
        return []
    where = f"{watch.shards or config.data.shards} {watch.split or 'all'}"
    return [
        f"held out   {where}: one centre view each, every {watch.every} epochs and at the end; "
        "nothing is chosen by it"
    ]


def _compiled_line(config: AnyConfig, *, cuda: bool) -> list[str]:
    """What will be compiled, if a compiler works."""
    if not config.compiles(cuda=cuda) or config.deepspeed.zero_optimization.stage == 3:
        return []
    of = " of each branch" if isinstance(config, PretrainConfig) else ""
    return [f"compile    the trunk{of}, block by block"]


def _sum(parts: dict[str, float], unit: float, name: str) -> str:
    held = ", ".join(f"{part} {size / unit:.3g}" for part, size in parts.items() if size)
    return f"{sum(parts.values()) / unit:.3g} {name}" + (f" ({held})" if held else "")


def _data(config: Config, plan: TrainingPlan, note: str) -> str:
    samples = f"{plan.samples:,} {'videos' if config.clip else 'images'}{note}"
    if isinstance(plan, ForeignPlan):
        return f"{len(plan.shards):,} tars without an index, epochs of {samples}"
    left_out = plan.samples % plan.batch_size
    if left_out:
        samples += f", of which an epoch leaves out {left_out:,} for want of a full batch"
    return f"{config.data.shards} {config.data.split or 'all'}: {samples}"


def _views(config: Config) -> str:
    clip = config.shape
    sides = {str(side): None for _, side in view_recipe(config).crops(clip.size)}
    timed = f"clips of {clip.frames} frames over {clip.seconds:g} s"
    what = timed if config.clip else "crops of an image"
    mean, std = (" ".join(f"{x:g}" for x in colour) for colour in view_recipe(config).stats)
    return f"{config.views} {what}, {', '.join(sides)} px, mean {mean}, std {std}"


def _described(objective: Section) -> str:
    """Its name and settings in one line."""
    settings: dict[str, Any] = objective.model_dump(exclude={"name"}, exclude_none=True)
    if settings.get("negatives") == "all":
        settings = {k: v for k, v in settings.items() if k not in RingKeys.model_fields}
    return f"{objective.name}: " + ", ".join(f"{k} {v}" for k, v in settings.items())


def explain(config: AnyConfig, samples: int | None, gpus: int | None) -> str:
    """What a run of ``config`` would do and need, without starting it.

    What the start would refuse is refused, as far as network and cache need not be touched.

    Args:
        config: of the run.
        samples: of an epoch; None = the shards', else the published set's.
        gpus: ranks on GPUs to plan for; None = as on this machine.
    """
    plan, note = planned_data(config, samples, gpus or place().ranks)
    deepspeed_config(config, plan.ranks, 1)
    _check_held_out(config, plan)
    cuda = bool(gpus) or torch.cuda.is_available()
    folder = RunFolder(Path(config.run.dir))
    resume = None if note else find_resume(folder, config, plan)
    if resume and (done := nothing_to_do(folder, resume, last_step(config, plan))):
        return printable(done)
    if not (config.run.resume and folder.saved):
        find_start(config)
    return describe(config, plan, cuda=cuda, note=note, resume=resume)


def _check_held_out(config: AnyConfig, plan: TrainingPlan) -> None:
    """Refuse what ``eval`` names, where it lies here, or where what is trained on does."""
    if config.eval.every is None:
        return
    shards = config.data.shards
    index = open_shards(shards) if isinstance(shards, str) and is_here(shards) else None
    watched = config.eval.shards or shards
    if is_here(watched) or (index and not is_remote(str(watched))):
        open_held_out(config, plan, index)
