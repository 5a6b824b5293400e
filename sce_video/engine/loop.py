"""The training loop: one DeepSpeed engine, any task."""

from __future__ import annotations

import json
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from sce_video.config import Config, OptimConfig, changed_keys, dump_config
from sce_video.engine import checkpoint
from sce_video.engine.ds_config import deepspeed_config, initialize
from sce_video.engine.health import save_picture
from sce_video.engine.optim.lars import LARS
from sce_video.engine.optim.schedules import scaled_lr, warmup_cosine, warmup_drops
from sce_video.engine.precision import check_bf16
from sce_video.engine.runtime import Runtime
from sce_video.engine.saver import Saver
from sce_video.engine.signals import StopFlag
from sce_video.engine.task import Evaluation, StepLoss, Task
from sce_video.engine.track import Tracker
from sce_video.engine.zero_layout import Segment, zero_layout
from sce_video.errors import Interrupted, SceVideoError, first_line
from sce_video.files import write_whole
from sce_video.progress import Progress

log = logging.getLogger("sce_video")

_MIN_BAD = 10  # bad samples that are always tolerated


def build_optimizer(module: nn.Module, optim: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer over two groups: weights, and biases and norm layers (no decay, no LARS)."""
    trained = [p for p in module.parameters() if p.requires_grad]
    # Decided by the parameter's own shape: under ZeRO the optimizer only sees flat buffers.
    weights: dict[str, Any] = {"params": [p for p in trained if p.ndim > 1]}
    exempt: dict[str, Any] = {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}
    if optim.name == "lars":
        exempt["adapt"] = False
        return LARS(
            [weights, exempt],
            lr=optim.lr,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
        )
    if optim.name == "sgd":
        return torch.optim.SGD(
            [weights, exempt],
            lr=optim.lr,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
        )
    return torch.optim.AdamW([weights, exempt], lr=optim.lr, weight_decay=optim.weight_decay)


class Trainer:
    """Runs a task to its end, or to a signal, leaving ``runs/NAME`` complete either way."""

    def __init__(
        self,
        config: Config,
        task: Task,
        runtime: Runtime,
        data_digest: str,
        evaluation: Evaluation | None = None,
    ) -> None:
        self.config, self.task, self.runtime = config, task, runtime
        self.folder = Path(config.run.dir)
        self.step = 0
        self._first_step = 0  # what this start of the run began with
        self.bad = 0  # different samples, of all ranks, since it started
        self._known_bad: set[str] = set()  # of this rank
        self._reasons: Counter[str] = Counter()  # of this rank's bad samples
        self._data_cpu = 0.0
        self._next: list[Any] = []  # the next step's micro-batches
        self._starved: SceVideoError | None = None  # why there are none
        self._waited = 0.0  # seconds, for them
        self._end: SceVideoError | None = None  # why all ranks stop after this step
        self.run_id = uuid.uuid4().hex[:8]
        self._data_digest = data_digest
        self._evaluation = evaluation
        self._ds_config = deepspeed_config(config, runtime.ranks)
        if config.train.precision == "bf16" and runtime.device.type == "cpu":
            shape = config.shape
            check_bf16(task.trunk(), torch.zeros(2, 3, shape.frames, shape.size, shape.size))
        optimizer = build_optimizer(task.module, config.optim)
        self.engine: Any = initialize(task.module, optimizer, self._ds_config)
        self.segments: list[Segment] = zero_layout(self.engine)
        if isinstance(optimizer, LARS) and self.engine.zero_optimization_stage() > 0:
            names = [n for n, p in task.module.named_parameters() if p.requires_grad]
            slots = {name: i for i, name in enumerate(names)}
            optimizer.bind(self.segments, slots, self.engine.device)
        self._saver = Saver(
            self.engine,
            self.segments,
            self.folder / "checkpoints",
            keep=config.train.keep,
            milestones=(config.train.keep_every or 0) * task.steps_per_epoch,
        )
        total = task.total_steps
        self.last_step = min(total, config.run.max_steps or total)
        self._lr = scaled_lr(config.optim.lr, config.optim.lr_scaling, config.train.batch_size)
        self._warmup = round(config.optim.warmup_epochs * task.steps_per_epoch)
        self._drops = [round(n * task.steps_per_epoch) for n in config.optim.decay_epochs]

    def run(self) -> None:
        """Train.

        Raises:
            Interrupted: a signal came; everything was saved.
            SceVideoError: a non-finite loss or a checkpoint that cannot be written; too many bad
                samples or no more clips, after saving.
        """
        if self.config.run.resume:
            self._restore()
        batches = self.task.batches(self.step * self.config.train.batch_size)  # starts the workers
        tracker = self._open() if self.runtime.main else None
        self._status("running")
        with StopFlag() as stop:
            try:
                shown = self.runtime.main
                with Progress(self.last_step, "step", start=self.step, shown=shown) as bar:
                    self._loop(batches, stop, tracker, bar)
                self.task.save(self.folder)
                self._status("done")
            except Interrupted as stopped:
                log.info("%s", stopped, extra={"file_only": True})
                self._status("interrupted")
                raise
            except BaseException as error:
                # What ends the run is printed by who catches it; here it is for the file alone.
                log.error("failed: %s", error, extra={"file_only": True})
                self._saver.settle()
                self._status("failed")
                # Gloo has no exception of its own.
                if isinstance(error, dist.DistError) or "/gloo/" in str(error):
                    raise SceVideoError(
                        f"another rank has gone ({first_line(error)[:80]}...); what it said is "
                        f"above or in {self._log_name}; continue with run.resume=true"
                    ) from error
                raise
            finally:
                if tracker:
                    tracker.close()

    def _loop(
        self, batches: Iterator[Any], stop: StopFlag, tracker: Tracker | None, bar: Progress
    ) -> None:
        every = self.config.track.every
        clock, since = time.perf_counter(), self.step
        if self.step < self.last_step:
            self._fetch(batches)
            if self._starved:
                raise self._starved
        while self.step < self.last_step:
            row = self._train_step(batches, stop, tracker)
            self.step += 1
            if tracker and (self.step % every == 0 or self.step in (1, self.last_step)):
                values = {f"train/{name}": float(value) for name, value in row.items()}
                now, steps = time.perf_counter(), self.step - since
                values["time/step"] = (now - clock) / steps  # means since the last row
                values["time/data"] = self._waited / steps
                values["time/data_cpu"] = self._data_cpu  # of this rank's workers, so far
                values["train/epoch"] = self.step / self.task.steps_per_epoch
                tracker.log(self.step, values)
                bar.update(self.step, self._pace(values))
                clock, since, self._waited = now, self.step, 0.0
            finished = self.step == self.last_step
            if self._evaluation and not self._end:
                clock += self._evaluate(self._evaluation, finished, tracker)
            if self._end or finished or self._save_due():
                self._save()
            if self._end or finished:
                self._saver.commit()
            if self._end and not (finished and isinstance(self._end, Interrupted)):
                raise self._end

    def _evaluate(self, evaluation: Evaluation, finished: bool, tracker: Tracker | None) -> float:
        """Look at the network where it is time to; the seconds that took."""
        if self.step % evaluation.every and not finished:
            return 0.0
        began = time.perf_counter()
        found = evaluation()
        if tracker:
            tracker.log(self.step, {f"eval/{name}": value for name, value in found.items()})
        return time.perf_counter() - began

    def _pace(self, values: dict[str, float]) -> str:
        clips = self.config.views * self.config.train.batch_size / values["time/step"]
        return (
            f"loss {values['train/loss']:.3f}  {clips:,.0f} clips/s  "
            f"{values['time/data'] / values['time/step']:.0%} waiting for data"
        )

    def _fetch(self, batches: Iterator[Any]) -> None:
        """Take the next step's micro-batches; all ranks hear in :meth:`_agree` of a failure.

        A step ahead: one rank alone cannot leave the others in the middle of a step.
        """
        start = time.perf_counter()
        try:
            self._next = [next(batches) for _ in range(self.config.train.accumulate)]
        except SceVideoError as error:
            self._starved = error
        self._waited += time.perf_counter() - start

    def _train_step(
        self, batches: Iterator[Any], stop: StopFlag, tracker: Tracker | None
    ) -> dict[str, Any]:
        """One optimizer step; scalars to log (averaged over ranks)."""
        optim, total = self.config.optim, self.task.total_steps
        ends = (optim.warmup_start_lr, optim.final_lr)
        if self._drops:
            lr = warmup_drops(self.step, self._warmup, self._drops, self._lr)
        else:
            lr = warmup_cosine(self.step, self._warmup, total, self._lr, *ends)
        # What torch draws is a function of the step, too, so that resuming needs no state of it.
        number = self.config.run.seed * total + self.step
        torch.manual_seed(number * self.runtime.ranks + self.runtime.rank)
        outcomes = []
        for micro, batch in enumerate(self._next):
            if tracker and self.step == 0 and micro == 0:
                self._picture(batch, tracker)
            outcome = self.task.loss(self.engine, batch, self.step)
            self.engine.backward(outcome.loss)
            outcomes.append(outcome._replace(loss=outcome.loss.detach()))
            self._data_cpu += outcome.cpu
            if micro + 1 < self.config.train.accumulate:
                self.engine.step()
        if self.step + 1 < self.last_step and not stop.raised:
            self._fetch(batches)
        row = self._agree(outcomes, stop)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        self._update(outcomes)
        return {**row, **self.task.end_step(self.step), "lr": lr}

    def _update(self, outcomes: list[StepLoss]) -> None:
        """The optimizer's step; an infinite gradient under a finite loss changes nothing.

        Raises:
            SceVideoError: on all ranks, for such a gradient.
        """
        finite = True
        if self.engine.zero_optimization_stage() == 0:  # the others leave it out by themselves
            gradients = [p.grad for p in self.task.module.parameters() if p.grad is not None]
            finite = bool(nn.utils.get_total_norm(gradients).isfinite())
        if finite:
            self.engine.step()
        if not finite or not self.engine.was_step_applied():
            self._name_samples(outcomes)
            raise SceVideoError(
                f"the gradient of step {self.step + 1} is not finite: see {self._log_name}"
            )

    def _name_samples(self, outcomes: list[StepLoss]) -> None:
        log.error("not finite: samples %s", ", ".join(key for o in outcomes for key in o.keys))

    def _agree(self, outcomes: list[StepLoss], stop: StopFlag) -> dict[str, Any]:
        """Average the scalars over micro-batches and ranks; stop together where one must."""
        parts = [{"loss": o.loss, **o.parts} for o in outcomes]
        row = {name: torch.stack([p[name].float() for p in parts]).mean() for name in parts[0]}
        bad = [sample for o in outcomes for sample in o.bad]
        bad = [(name, reason) for name, reason in bad if name not in self._known_bad]
        for name, reason in bad:
            log.warning("bad sample %s: %s; replaced by the next", name, reason)
            self._known_bad.add(name)
            self._reasons[reason] += 1
        finite = bool(torch.isfinite(row["loss"]))
        unwritten = self._saver.error()
        told = [stop.raised, self._starved is not None, len(bad), not finite, bool(unwritten)]
        flags = torch.tensor(told, device=self.engine.device)
        values = torch.cat([torch.stack(list(row.values())), flags.to(row["loss"].dtype)])
        dist.all_reduce(values)
        stops, starved, new_bad, infinite, failed = values[-len(told) :].int().tolist()
        if infinite:
            if not finite:  # the rank that has them names them
                self._name_samples(outcomes)
            raise SceVideoError(
                f"the loss of step {self.step + 1} is not finite: see {self._log_name}"
            )
        if failed:
            raise unwritten or SceVideoError(f"no checkpoint was written: see {self._log_name}")
        self.bad += new_bad
        self._end = self._ending(stops, starved)
        mean = dict(zip(row, values[: -len(told)] / self.runtime.ranks, strict=True))
        return {**mean, "bad_samples": float(self.bad)}

    def _ending(self, stops: int, starved: int) -> SceVideoError | None:
        """Why this step is the last, if it is; the same kind on all ranks."""
        if stops:  # first: launchers end what feeds us, too
            return Interrupted(
                f"stopped by a signal after step {self.step + 1}; "
                "continue with the same command and run.resume=true"
            )
        if starved:
            return self._starved or SceVideoError(
                f"another rank has no more clips: see {self._log_name}"
            )
        steps = min(self.step + 1 - self._first_step, self.task.steps_per_epoch)  # then they recur
        seen = steps * self.config.train.batch_size
        limit = max(_MIN_BAD, math.ceil(self.config.data.max_bad_fraction * seen))
        if self.bad <= limit:
            return None
        reasons: list[Counter[str] | None] = [None] * self.runtime.ranks
        dist.all_gather_object(reasons, self._reasons)  # the ranks agree, so all are here
        most = sum((found for found in reasons if found), Counter()).most_common(3)
        summary = ", ".join(f"{count} x {reason}" for reason, count in most)
        return SceVideoError(
            f"{self.bad} of {seen} samples were bad (data.max_bad_fraction allows {limit}): "
            f"{summary}; all are named in {self._log_name}; a set with an index is "
            "checked by python -m sce_video.shard verify"
        )

    @property
    def _log_name(self) -> Path:
        return self.folder / "run.log"

    def _save_due(self) -> bool:
        return self.step % (self.config.train.save_every * self.task.steps_per_epoch) == 0

    def _save(self) -> None:
        self._saver.take(
            {
                "step": self.step,
                "consumed": self.step * self.config.train.batch_size,
                "run_id": self.run_id,
                "data": self._data_digest,
                "batch_size": self.config.train.batch_size,
            }
        )
        self._status("running")

    def _restore(self) -> None:
        path, state = checkpoint.newest(self.folder / "checkpoints")
        for key, now in (("data", self._data_digest), ("batch_size", self.config.train.batch_size)):
            if state[key] != now:
                raise SceVideoError(f"{path}: was trained with other {key}; cannot resume")
        checkpoint.restore(self.engine, self.segments, path)
        self.step, self.run_id = state["step"], state["run_id"]
        self._first_step = self.step
        log.info("resumed from %s", path)

    def _open(self) -> Tracker:
        path = self.folder / "config.yaml"
        if self.config.run.resume and path.is_file():
            for change in changed_keys(path.read_text(), self.config):
                log.warning("from step %d on %s", self.step + 1, change)
        write_whole(path, dump_config(self.config).encode())
        text = json.dumps(self._ds_config, indent=1)
        write_whole(self.folder / "deepspeed.json", text.encode())
        run_config = self.config.model_dump(mode="json")
        return Tracker(self.folder, self.config.track, run_config, self.run_id)

    def _picture(self, batch: Any, tracker: Tracker) -> None:
        picture = self.task.picture(batch)
        if picture is not None:
            path = self.folder / "samples" / "views.png"
            save_picture(picture, path)
            tracker.image(0, "samples/views", path)

    def _status(self, state: str) -> None:
        if self.runtime.main:
            saved = sorted((self.folder / "checkpoints").glob("step-*"))
            status = {
                "state": state,
                "step": self.step,
                "checkpoint": saved[-1].name if saved else None,
            }
            write_whole(self.folder / "status.json", json.dumps(status).encode())
