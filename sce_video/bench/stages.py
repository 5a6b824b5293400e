"""Where the time of this machine goes, with a run's own shard set and config.

The run itself is taken first, for some steps, as it is trained: it tells how long a step is and how
much of it the trainer waits for clips. Then each stage by itself, on other samples of the set:
reading, decoding and cutting as one worker does them, augmentation and step on the device. What is
written goes into a temporary folder.
"""

from __future__ import annotations

import math
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sce_video.bench.clock import now
from sce_video.config.tasks import AnyConfig
from sce_video.engine.clip_task import ClipTask
from sce_video.engine.loop import Trainer
from sce_video.engine.pretrain import PretrainTask
from sce_video.engine.runtime import start_runtime, stop_runtime
from sce_video.engine.supervised import SupervisedTask
from sce_video.engine.track import read_metrics
from sce_video.errors import Interrupted, SceVideoError
from sce_video.shardset.index import ShardIndex
from sce_video.stream.cut import all_needed, cut_clips, decode_pixels
from sce_video.stream.feed import make_ready
from sce_video.stream.loader import ClipBatch, ClipDataset
from sce_video.stream.order import BatchPlan, Position
from sce_video.video.decode import DecodeError

CLIP_STAGES, DEVICE_STAGES = ("read", "decode", "cut"), ("augment", "step")
_SAMPLES = 32  # that clip stages are taken on, at least: a small micro-batch says little
_WARM = 2  # steps on the device before the clock counts

Seconds = dict[str, list[float]]
"""Stage -> what it took, a sample or a step each."""


def measure(config: AnyConfig, index: ShardIndex, plan: BatchPlan, steps: int) -> dict[str, Any]:
    """Take ``steps`` steps of a run and each of its stages; figures as JSON values.

    Args:
        config: of the run; its folder, tracking, checkpoints and evaluation are left out.
        index: of its shard set.
        plan: of one process, as :func:`sce_video.stream.data.open_data` gives it.
        steps: optimizer steps that count.

    Raises:
        UsageError: as training, before its first step.
        SceVideoError: as training; or no sample can be read.
        Interrupted: by a signal.
    """
    warm = 1 + 2 * config.data.workers  # batches that are there before the first step is over
    with tempfile.TemporaryDirectory(prefix="sce-video-bench-") as folder:
        config = short_run(config, folder, warm + steps, 1)
        runtime = start_runtime(config.data.workers)
        try:
            kind: type[ClipTask] = PretrainTask if config.task == "pretrain" else SupervisedTask
            task = kind(config, index, plan, runtime)
            trainer = Trainer(task)
            trainer.run()
            rows = read_metrics(Path(folder))
            dataset, threads = task.dataset(), torch.get_num_threads()
            # The device first: meanwhile the run's workers end what they have begun.
            batch = dataset.__getitems__(next(plan.micro_batches(0)))
            spent = _device_stages(task, trainer.engine, batch, steps)
            torch.set_num_threads(1)  # as in a worker
            spent |= _clip_stages(task, dataset, _positions(plan, trainer.last_step + warm))
            torch.set_num_threads(threads)
        except Interrupted as error:
            raise Interrupted("interrupted") from error
        finally:
            stop_runtime()
    taken = [(row["time/step"], row["time/data"]) for row in rows[min(warm, len(rows) - 1) :]]
    workers = 0 if dataset.on_gpu else config.data.workers
    return {
        "machine": f"{processor()}; {runtime.environment()}",
        "device": runtime.device.type,
        "threads": threads,
        "cores": len(os.sched_getaffinity(0)),
        "shards": f"{index.name} {config.data.split or 'all'}",
        "trunk": config.model.trunk,
        **summary(spent, taken, batch_size=config.train.batch_size, workers=workers),
    }


def short_run(config: AnyConfig, folder: str, steps: int, every: int) -> AnyConfig:
    """The config of a run in ``folder`` that ends after ``steps`` and does nothing besides.

    ``every``: steps between its rows.
    """
    run = {"dir": folder, "resume": False, "max_steps": steps, "max_hours": None}
    train = {"save_every": 10**9, "keep_every": None}
    track = {"wandb": "off", "every": every}
    changes = {"run": run, "train": train, "track": track}
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=new) for name, new in changes.items()}
    )


def _positions(plan: BatchPlan, step: int) -> list[Position]:
    """Samples that the run did not come to by ``step``, so that reading finds them on the disk."""
    batches = chain(plan.micro_batches(step * plan.batch_size), plan.micro_batches(0))
    return list(chain.from_iterable(islice(batches, math.ceil(_SAMPLES / plan.micro_batch))))


def _clip_stages(task: ClipTask, dataset: ClipDataset, positions: Sequence[Position]) -> Seconds:
    """Of each sample that can be read, in this process."""
    reader, device = dataset.reader, task.runtime.device
    by, antialias = task.config.data.decode, task.config.augment.antialias
    spent: Seconds = {name: [] for name in CLIP_STAGES}
    for position in positions:
        row = position.row
        specs = dataset.sampler(reader.video(row), position.epoch, row)
        needed = all_needed(specs)
        marks = [now(device)]
        try:
            media, packets = reader.media(row), reader.packets(row)
            marks.append(now(device))
            pixels = decode_pixels(media, needed, packets, by)
            marks.append(now(device))
            cut_clips(pixels, needed, specs, antialias=antialias)
            marks.append(now(device))
        except DecodeError:
            continue
        for name, seconds in zip(CLIP_STAGES, np.diff(marks).tolist(), strict=True):
            spent[name].append(seconds)
    if not spent["cut"]:
        raise SceVideoError(f"none of {len(positions)} samples can be read: see shard verify")
    return spent


def _device_stages(task: ClipTask, engine: Any, batch: ClipBatch, steps: int) -> Seconds:
    """Of optimizer steps on one and the same micro-batch, nothing else at work."""
    device = task.runtime.device
    if device.type == "cuda":
        batch.views = [view if view.is_cuda else view.pin_memory() for view in batch.views]
    spent: Seconds = {name: [] for name in DEVICE_STAGES}
    for _ in range(_WARM + steps):
        began = now(device)
        for _ in range(task.config.train.accumulate):
            ready = make_ready(batch, task.views, device)
        augmented = now(device)
        for _ in range(task.config.train.accumulate):
            engine.backward(task.loss(engine, ready, 0).loss)
            engine.step()
        task.end_step(0)
        spent["augment"].append(augmented - began)
        spent["step"].append(now(device) - augmented)
    return {name: seconds[_WARM:] for name, seconds in spent.items()}


def summary(
    spent: Seconds, steps: Sequence[tuple[float, float]], *, batch_size: int, workers: int
) -> dict[str, Any]:
    """Figures of the stages and of the run, and what bounds it.

    Args:
        spent: seconds by stage: of samples for those of clips, of steps for those of the device.
        steps: of the run: seconds of each, and those of them that the trainer waited for clips.
        batch_size: samples a step.
        workers: processes that make clips; 0 = the trainer's own.

    Returns:
        ``batch_size`` and ``workers`` as given; how many ``samples`` and ``steps`` were measured;
        ``stages``, a row each (``ms`` a sample, ``spread`` of it: the middle half over the median,
        ``samples_per_s``, ``ms_per_step``: of clip stages, shared by the workers); ``run``, such a
        row; ``waiting``, a share of its time; ``slowest``, a stage; ``bound``, ``clips`` or
        ``device``; ``workers_needed`` for clips as fast as the device takes them; ``between``, ms
        of a step of the run that are neither waiting nor the device's stages.
    """
    hands = max(workers, 1)
    stages = [_row(name, spent[name], 1, batch_size / hands) for name in CLIP_STAGES]
    stages += [_row(name, spent[name], batch_size, batch_size) for name in DEVICE_STAGES]
    per_step = {stage["name"]: stage["ms_per_step"] for stage in stages}
    clips, device = (sum(per_step[n] for n in names) for names in (CLIP_STAGES, DEVICE_STAGES))
    run = np.array(steps)
    whole, waiting = _row("run", run[:, 0], batch_size, batch_size), run[:, 1].sum()
    share = float(waiting / run[:, 0].sum())
    return {
        "batch_size": batch_size,
        "workers": workers,
        "samples": len(spent["read"]),
        "steps": len(steps),
        "stages": stages,
        "run": whole,
        "waiting": share,
        "between": whole["ms_per_step"] * (1 - share) - device,
        "slowest": max(per_step, key=per_step.__getitem__),
        "bound": "clips" if clips > device else "device",
        "workers_needed": math.ceil(clips * hands / device),
    }


def _row(name: str, seconds: Any, samples: int, per_step: float) -> dict[str, Any]:
    """Figures of what took ``seconds`` for ``samples``; a step takes ``per_step`` samples' time."""
    low, middle, high = np.percentile(seconds, (25, 50, 75))
    ms = float(1000 * middle / samples)
    return {
        "name": name,
        "ms": ms,
        "spread": float((high - low) / middle),
        "samples_per_s": 1000 / ms,
        "ms_per_step": ms * per_step,
    }


def table(result: Mapping[str, Any]) -> str:
    """What :func:`measure` found, for people."""
    workers, device = result["workers"], result["device"]
    lines = [
        f"{result['machine']}; {result['threads']} thread(s)",
        f"{result['shards']}; {result['trunk']}, {result['batch_size']} samples a step, "
        f"{workers} workers; medians of {result['samples']} samples and {result['steps']} steps",
        "",
        f"{'':<18}{'ms a sample':>12}{'spread':>8}{'samples/s':>11}{'ms a step':>11}",
    ]
    for row in [*result["stages"], result["run"]]:
        where = "" if row["name"] == "run" else "a worker" if row["name"] in CLIP_STAGES else device
        lines.append(
            f"{row['name']:<8}{where:<10}{row['ms']:>12.3f}{row['spread']:>8.0%}"
            f"{row['samples_per_s']:>11,.1f}{row['ms_per_step']:>11,.1f}"
        )
    return "\n".join([*lines, "", *_conclusions(result)])


def _conclusions(result: Mapping[str, Any]) -> list[str]:
    """What holds the run back and how many workers would do, in sentences."""
    workers, needed, cores = result["workers"], result["workers_needed"], result["cores"]
    run, waiting = result["run"]["ms_per_step"], result["waiting"]
    who = f"the loader with {workers} workers" if workers else "making clips in the trainer"
    held, other = (who, "the step") if result["bound"] == "clips" else ("the step", who)
    few = f" (this machine has {cores} cores)" if needed > cores else ""
    do = "1 worker" if needed == 1 else f"{needed} workers"
    return [
        f"{held[0].upper()}{held[1:]} holds this run back, not {other}: the slowest stage is "
        f"{result['slowest']}, and {do} would make clips as fast as the device takes them{few}.",
        f"Of a step of the run, {run:,.1f} ms, {waiting:.0%} is waiting for clips, and "
        f"{result['between']:,.1f} ms are neither that nor the device's stages: engine and loop, "
        "and what workers take of the cores that they share with the step.",
    ]


def processor() -> str:
    """Its name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
