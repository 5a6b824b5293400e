"""The training loop: one DeepSpeed engine, any task."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from sce_video.config.tasks import Config
from sce_video.engine import checkpoint
from sce_video.engine.agreement import Agreement, Reason, name_samples
from sce_video.engine.checkpoint_saver import CheckpointSaver
from sce_video.engine.clip_task import ClipTask
from sce_video.engine.ds_config import build_engine, deepspeed_config
from sce_video.engine.optim.schedules import learning_rate
from sce_video.engine.pictures import save_picture
from sce_video.engine.precision import check_bf16
from sce_video.engine.run_folder import RunFolder
from sce_video.engine.runtime import Runtime
from sce_video.engine.signals import StopFlag
from sce_video.engine.task import Evaluation, StepLoss
from sce_video.engine.track import Tracker
from sce_video.errors import Interrupted, SceVideoError, first_line
from sce_video.progress import Progress

log = logging.getLogger("sce_video")


class Feed:
    """The micro-batches of the next step, and what it costs to get them.

    They are fetched a step ahead: one rank alone cannot leave the others in the middle of a step.
    """

    def __init__(self, batches: Iterator[Any], count: int) -> None:
        """``count``: micro-batches a step."""
        self._batches, self._count = batches, count
        self.next: list[Any] = []
        self.error: SceVideoError | None = None  # why there are none
        self.waited = 0.0  # seconds, since this was last set to 0
        self.cpu = 0.0  # seconds of this rank's workers

    def fetch(self) -> None:
        """Take the next step's; the other ranks hear of a failure by the :class:`Agreement`."""
        start = time.perf_counter()
        try:
            self.next = [next(self._batches) for _ in range(self._count)]
        except SceVideoError as error:
            self.error = error
        self.waited += time.perf_counter() - start


class Trainer:
    """Runs a task to its end, or to a signal, leaving ``runs/NAME`` complete either way."""

    def __init__(
        self,
        config: Config,
        task: ClipTask,
        runtime: Runtime,
        data_digest: str,
        evaluation: Evaluation | None = None,
    ) -> None:
        self.config, self.task, self.runtime = config, task, runtime
        self._evaluation = evaluation
        self._folder = RunFolder(Path(config.run.dir))
        self._identity = {  # a checkpoint says of which run it is
            "run_id": uuid.uuid4().hex[:8],
            "data": data_digest,
            "batch_size": config.train.batch_size,
        }
        if config.train.precision == "bf16" and runtime.device.type == "cpu":
            shape = config.shape
            check_bf16(task.trunk(), torch.zeros(2, 3, shape.frames, shape.size, shape.size))
        self.engine, segments = build_engine(
            task.module, config.optim, deepspeed_config(config, runtime.ranks)
        )
        write = partial(
            checkpoint.save,
            self._folder.checkpoints,
            keep=config.train.keep,
            milestones=(config.train.keep_every or 0) * task.steps_per_epoch,
        )
        self._saver = CheckpointSaver(self.engine, segments, write)
        self._agreement = Agreement(config, runtime, task.steps_per_epoch, self._folder.log)
        self.step = 0
        self.last_step = min(task.total_steps, config.run.max_steps or task.total_steps)

    def run(self) -> None:
        """Train.

        Raises:
            Interrupted: a signal came; everything was saved.
            SceVideoError: a non-finite loss or a checkpoint that cannot be written; too many bad
                samples or no more clips, after saving.
        """
        train = self.config.train
        if self.config.run.resume:
            self._restore()
        batches = self.task.batches(self.step * train.batch_size)  # starts the workers
        tracker = self._open() if self.runtime.main else None
        self._status("running")
        with StopFlag() as stop:
            try:
                shown = self.runtime.main
                with Progress(self.last_step, "step", start=self.step, shown=shown) as bar:
                    self._loop(Feed(batches, train.accumulate), stop, tracker, bar)
                self.task.save(self._folder.path)
                self._status("done")
            except Interrupted as stopped:
                log.info("%s", stopped, extra={"file_only": True})
                self._status("interrupted")
                raise
            except BaseException as error:
                self._fail(error)
                raise
            finally:
                if tracker:
                    tracker.close()

    def _fail(self, error: BaseException) -> None:
        """Leave the folder as after a failure; a peer's end gets a message that says so."""
        # What ends the run is printed by who catches it; here it is for the file alone.
        log.error("failed: %s", error, extra={"file_only": True})
        self._saver.settle()
        self._status("failed")
        # Gloo has no exception of its own.
        if isinstance(error, dist.DistError) or "/gloo/" in str(error):
            raise SceVideoError(
                f"another rank has gone ({first_line(error)[:80]}...); what it said is "
                f"above or in {self._folder.log}; continue with run.resume=true"
            ) from error

    def _loop(self, feed: Feed, stop: StopFlag, tracker: Tracker | None, bar: Progress) -> None:
        clock, since, every = time.perf_counter(), self.step, self.config.track.every
        if self.step < self.last_step:
            feed.fetch()
            if feed.error:
                raise feed.error
        while self.step < self.last_step:
            row, end = self._train_step(feed, stop, tracker)
            self.step += 1
            finished = self.step == self.last_step
            if tracker and (self.step % every == 0 or self.step == 1 or finished):
                values = {f"train/{name}": float(value) for name, value in row.items()}
                now, steps = time.perf_counter(), self.step - since
                values["time/step"] = (now - clock) / steps  # means since the last row
                values["time/data"] = feed.waited / steps
                values["time/data_cpu"] = feed.cpu  # so far
                values["train/epoch"] = self.step / self.task.steps_per_epoch
                tracker.log(self.step, values)
                bar.update(self.step, self._pace(values))
                clock, since, feed.waited = now, self.step, 0.0
            if self._evaluation and not end:
                clock += self._evaluate(self._evaluation, finished, tracker)
            save_steps = self.config.train.save_every * self.task.steps_per_epoch
            if end or finished or self.step % save_steps == 0:
                self._save()
            if end or finished:
                self._saver.commit()
            if end and not (finished and isinstance(end, Interrupted)):
                raise end

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

    def _train_step(
        self, feed: Feed, stop: StopFlag, tracker: Tracker | None
    ) -> tuple[dict[str, Any], BaseException | None]:
        """One optimizer step; scalars to log (averaged over ranks), and what ends training."""
        config, task, runtime = self.config, self.task, self.runtime
        # What torch draws is a function of the step, too, so that resuming needs no state of it.
        number = config.run.seed * task.total_steps + self.step
        torch.manual_seed(number * runtime.ranks + runtime.rank)
        outcomes = []
        for micro, batch in enumerate(feed.next, 1):
            if tracker and self.step == 0 and micro == 1:
                self._picture(batch, tracker)
            outcome = task.loss(self.engine, batch, self.step)
            self.engine.backward(outcome.loss)
            outcomes.append(outcome._replace(loss=outcome.loss.detach()))
            feed.cpu += outcome.cpu
            if micro < config.train.accumulate:
                self.engine.step()
        if self.step + 1 < self.last_step and not stop.raised:
            feed.fetch()
        own = {
            Reason.UNWRITTEN: self._saver.error(),
            Reason.STOPPED: stop.raised,
            Reason.STARVED: feed.error,
        }
        row, end = self._agreement.reach(self.step + 1, outcomes, own)
        lr = learning_rate(config, self.step, task.steps_per_epoch)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        self._update(outcomes)
        return {**row, **task.end_step(self.step), "lr": lr}, end

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
            name_samples(outcomes)
            raise SceVideoError(
                f"the gradient of step {self.step + 1} is not finite: see {self._folder.log}"
            )

    def _save(self) -> None:
        consumed = self.step * self.config.train.batch_size
        self._saver.take({"step": self.step, "consumed": consumed, **self._identity})
        self._status("running")

    def _restore(self) -> None:
        folder, main = self._folder.checkpoints, self.runtime.main
        path, state = checkpoint.newest(folder, warn=log.warning if main else log.debug)
        for key in ("data", "batch_size"):
            if state[key] != self._identity[key]:
                raise SceVideoError(f"{path}: was trained with other {key}; cannot resume")
        self._saver.restore(path)
        self.step, self._identity["run_id"] = state["step"], state["run_id"]
        log.info("resumed from %s", path)

    def _open(self) -> Tracker:
        config, run_id = self.config, str(self._identity["run_id"])
        self._folder.begin(config, deepspeed_config(config, self.runtime.ranks), self.step)
        return Tracker(self._folder.path, config.track, config.model_dump(mode="json"), run_id)

    def _picture(self, batch: Any, tracker: Tracker) -> None:
        picture = self.task.picture(batch)
        if picture is not None:
            save_picture(picture, self._folder.picture)
            tracker.image(0, "samples/views", self._folder.picture)

    def _status(self, state: str) -> None:
        if self.runtime.main:
            self._folder.status(state, self.step)
