"""The training loop: one DeepSpeed engine, any task."""

from __future__ import annotations

import logging
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist

from sce_video.compiler import compiled_so_far
from sce_video.engine import checkpoint
from sce_video.engine.agreement import Agreement, Reason
from sce_video.engine.checkpoint_saver import CheckpointSaver
from sce_video.engine.clip_task import ClipTask
from sce_video.engine.ds_config import build_engine, count_trained, deepspeed_config
from sce_video.engine.gradients import Gradients
from sce_video.engine.optim.schedules import learning_rate
from sce_video.engine.pictures import save_picture
from sce_video.engine.precision import check_bf16
from sce_video.engine.run_folder import RunFolder
from sce_video.engine.signals import StopFlag
from sce_video.engine.track import Tracker
from sce_video.errors import Interrupted, SceVideoError, first_line
from sce_video.progress import Progress
from sce_video.stream.feed import DeviceFeed

log = logging.getLogger("sce_video")


class Evaluation(Protocol):
    """What looks at the network between two steps, and leaves it as it is."""

    every: int  # optimizer steps

    def __call__(self) -> dict[str, float]:
        """Scalars to log; a collective call."""


class Trainer:
    """Runs a task to its end, or to a signal, leaving ``runs/NAME`` complete either way."""

    def __init__(self, task: ClipTask, evaluation: Evaluation | None = None) -> None:
        self.task, self._evaluation = task, evaluation
        self.config, self.runtime = config, runtime = task.config, task.runtime
        self._folder = RunFolder(Path(config.run.dir))
        self._identity = {  # a checkpoint says of which run it is
            "run_id": uuid.uuid4().hex[:8],
            "data": task.plan.digest,
            "batch_size": config.train.batch_size,
        }
        if config.train.precision == "bf16" and runtime.device.type == "cpu":
            shape = config.shape
            check_bf16(task.trunk(), torch.zeros(2, 3, shape.frames, shape.size, shape.size))
        self._settings = deepspeed_config(config, runtime.ranks, count_trained(task.module))
        self.engine, self._segments = build_engine(task.module, config, runtime.ranks)
        write = partial(
            checkpoint.save,
            self._folder.checkpoints,
            keep=config.train.keep,
            milestones=(config.train.keep_every or 0) * task.steps_per_epoch,
        )
        self._saver = CheckpointSaver(self.engine, self._segments, write)
        self._gradients = Gradients(self.engine, self._segments)
        self._agreement = Agreement(config, runtime, task.steps_per_epoch, self._folder.log)
        self._tracker: Tracker | None = None
        self.step = 0
        self.last_step = min(task.total_steps, config.run.max_steps or task.total_steps)

    def run(self) -> None:
        """Train.

        Raises:
            Interrupted: a signal came; everything was saved.
            SceVideoError: a non-finite loss or a checkpoint that cannot be written; too many bad
                samples or no more clips, after saving.
        """
        config, train = self.config, self.config.train
        if config.run.resume:
            self._restore()
        feed = self.task.feed(self.step * train.batch_size)  # starts the workers
        if self.runtime.main:
            self._folder.begin(config, self._settings, self.step)
            self._tracker = Tracker(self._folder.path, config, str(self._identity["run_id"]))
        self._status("running")
        with StopFlag() as stop:
            try:
                shown = self.runtime.main
                with Progress(self.last_step, "step", start=self.step, shown=shown) as bar:
                    self._loop(feed, stop, bar)
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
                if self._tracker:
                    self._tracker.close()

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

    def _loop(self, feed: DeviceFeed, stop: StopFlag, bar: Progress) -> None:
        clock, since, every = time.perf_counter(), self.step, self.config.track.every
        first = self.step
        if self.step < self.last_step:
            feed.fetch()
            if feed.error:
                raise feed.error
        while self.step < self.last_step:
            row, end = self._train_step(feed, stop)
            if self.step == first and (compiled := compiled_so_far()):
                log.info("%s", compiled)
            self.step += 1
            finished = self.step == self.last_step
            if self._tracker and (self.step % every == 0 or self.step == 1 or finished):
                values = {f"train/{name}": value for name, value in row.items()}
                now, steps = time.perf_counter(), self.step - since
                values["time/step"] = (now - clock) / steps  # means since the last row
                values["time/data"] = feed.waited / steps
                values["time/data_cpu"] = feed.cpu  # so far
                values["train/epoch"] = self.step / self.task.steps_per_epoch
                self._tracker.log(self.step, values)
                bar.update(self.step, self._pace(values))
                clock, since, feed.waited = now, self.step, 0.0
            due = finished or (self._evaluation and self.step % self._evaluation.every == 0)
            if self._evaluation and due and not end:
                began = time.perf_counter()
                found = self._evaluation()
                if self._tracker:
                    self._tracker.log(self.step, {f"eval/{k}": value for k, value in found.items()})
                clock += time.perf_counter() - began
            save_steps = self.config.train.save_every * self.task.steps_per_epoch
            if end or finished or self.step % save_steps == 0:
                consumed = self.step * self.config.train.batch_size
                self._saver.take({"step": self.step, "consumed": consumed, **self._identity})
                self._status("running")
            if end or finished:
                self._saver.commit()
            if end and not (finished and isinstance(end, Interrupted)):
                raise end

    def _pace(self, values: dict[str, float]) -> str:
        clips = self.config.views * self.config.train.batch_size / values["time/step"]
        return (
            f"loss {values['train/loss']:.3f}  {clips:,.0f} clips/s  "
            f"{values['time/data'] / values['time/step']:.0%} waiting for data"
        )

    def _train_step(
        self, feed: DeviceFeed, stop: StopFlag
    ) -> tuple[dict[str, float], BaseException | None]:
        """One optimizer step; scalars to log (averaged over ranks), and what ends training.

        The host waits for the device once, where all ranks agree.
        """
        config, task, runtime = self.config, self.task, self.runtime
        # What torch draws is a function of the step, too, so that resuming needs no state of it.
        number = config.run.seed * task.total_steps + self.step
        torch.manual_seed(number * runtime.ranks + runtime.rank)
        if self._tracker and self.step == 0:
            save_picture(task.picture(feed.first()), self._folder.picture)
            self._tracker.image(0, "samples/views", self._folder.picture)
        outcomes = []
        for micro, ready in enumerate(feed.step(), 1):
            outcome = task.loss(self.engine, ready, self.step)
            self.engine.backward(outcome.loss)
            outcomes.append(outcome._replace(loss=outcome.loss.detach()))
            if micro < config.train.accumulate:
                self.engine.step()
        if self.step + 1 < self.last_step and not stop.raised:
            feed.fetch()
        own = {
            Reason.UNWRITTEN: self._saver.error(),
            Reason.STOPPED: stop.raised,
            Reason.STARVED: feed.error,
        }
        square = self._gradients.square(runtime.ranks)
        row, end = self._agreement.reach(self.step + 1, outcomes, square, own)
        self._gradients.set_norm(row["grad_norm"])
        lr = learning_rate(config, self.step, task.steps_per_epoch)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        self.engine.step()
        return {**row, **task.end_step(self.step), "lr": lr}, end

    def _restore(self) -> None:
        folder, main = self._folder.checkpoints, self.runtime.main
        path, state = checkpoint.newest(folder, warn=log.warning if main else log.debug)
        for key in ("data", "batch_size"):
            if state[key] != self._identity[key]:
                raise SceVideoError(f"{path}: was trained with other {key}; cannot resume")
        checkpoint.restore(self.engine, self._segments, path)
        self.step, self._identity["run_id"] = state["step"], state["run_id"]
        log.info("resumed from %s", path)

    def _status(self, state: str) -> None:
        if self.runtime.main:
            self._folder.status(state, self.step)
