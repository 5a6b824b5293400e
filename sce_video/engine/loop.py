"""The training loop: one DeepSpeed engine, any task."""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist

from sce_video.compiler import compiled_so_far
from sce_video.engine import checkpoint
from sce_video.engine.agreement import GO_ON, Agreed, Agreement, Given, Reason
from sce_video.engine.cadence import Cadence
from sce_video.engine.checkpoint_saver import CheckpointSaver
from sce_video.engine.clip_task import ClipTask
from sce_video.engine.ds_config import build_engine, count_trained, deepspeed_config
from sce_video.engine.gradients import Gradients
from sce_video.engine.optim.schedules import learning_rate
from sce_video.engine.pictures import save_picture
from sce_video.engine.precision import check_bf16
from sce_video.engine.resume import Resume, last_step
from sce_video.engine.rows import RowMeans
from sce_video.engine.run_folder import RunFolder
from sce_video.engine.signals import StopFlag
from sce_video.engine.status import State
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

    def __init__(
        self,
        task: ClipTask,
        evaluation: Evaluation | None = None,
        *,
        folder: RunFolder | None = None,
        resume: Resume | None = None,
    ) -> None:
        """Build the engine.

        Args:
            task: what is trained.
            evaluation: what looks at it.
            folder: of the run, where it is held already.
            resume: where the run goes on, the same on all ranks; None = it starts.
        """
        self.task, self._evaluation, self._resume = task, evaluation, resume
        self.config, self.runtime = config, runtime = task.config, task.runtime
        self._folder = folder or RunFolder(Path(config.run.dir))
        self._identity = {  # what a checkpoint was made with
            "run_id": uuid.uuid4().hex[:8],
            "data": task.plan.digest,
            "ranks": runtime.ranks,
            "config": config.model_dump(mode="json"),
        }
        if config.train.precision == "bf16" and runtime.device.type == "cpu":
            shape = config.shape
            check_bf16(task.trunk(), torch.zeros(2, 3, shape.frames, shape.size, shape.size))
        self._settings = deepspeed_config(config, runtime.ranks, count_trained(task.module))
        self.engine, self._segments = build_engine(task.module, config, runtime.ranks)
        self._saver = CheckpointSaver(self.engine, self._segments, self._save)
        self._gradients = Gradients(self.engine, self._segments)
        self._agreement = Agreement(config, runtime, task.steps_per_epoch, self._folder.log)
        self._tracker: Tracker | None = None
        self._means, self._cpu = RowMeans(), 0.0
        self._stop, self._cadence = StopFlag(), Cadence(config, task.steps_per_epoch)
        task.stopped = self._stopped
        self.step = 0
        self.last_step = last_step(config, task.plan)

    def run(self) -> None:
        """Train.

        Raises:
            Interrupted: a signal came, or the time is up; everything was saved.
            SceVideoError: a non-finite loss, a file that cannot be written, or another process that
                took the folder over; too many bad samples or no more clips, after saving.
        """
        config = self.config
        self._restore()
        feed = self.task.feed(self.step * config.train.batch_size)  # starts the workers
        with self._stop:
            try:
                if self.runtime.main:
                    self._folder.begin(config, self._settings)
                    self._tracker = Tracker(
                        self._folder.path, config, str(self._identity["run_id"])
                    )
                self._status("running")
                shown = self.runtime.main
                with Progress(self.last_step, "step", start=self.step, shown=shown) as bar:
                    self._loop(feed, bar)
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
                feed.close()
                if self._tracker:
                    self._tracker.close()

    def _fail(self, error: BaseException) -> None:
        """Leave the folder as after a failure; a peer's end gets a message that says so."""
        self._saver.settle()
        if self._folder.lost is None:
            with suppress(OSError):  # the disk may be full
                self._status("failed", first_line(error))
            with suppress(OSError):
                # What ends the run is printed by who catches it; here it is for the file alone.
                log.error("failed: %s", error, extra={"file_only": True})
        # Gloo has no exception of its own.
        if isinstance(error, dist.DistError) or "/gloo/" in str(error):
            raise SceVideoError(
                f"another rank has gone ({first_line(error)[:80]}...); what it said is "
                f"above or in {self._folder.log}; {GO_ON}"
            ) from error

    def _stopped(self) -> bool:
        """Whether this rank is to wait for its clips no longer."""
        return self._stop.raised or self._cadence.over(self._saver.longest) is not None

    def _loop(self, feed: DeviceFeed, bar: Progress) -> None:
        clock, since, every = time.perf_counter(), self.step, self.config.track.every
        first, cadence = self.step, self._cadence
        if self.step < self.last_step:
            feed.fetch()
            self._agreement.begin(self.step, self._reasons(feed, self.step))
        elif self._evaluation:  # the start before this one was stopped in its last look
            self._evaluate(self._evaluation)
        while self.step < self.last_step:
            agreed = self._train_step(feed)
            if self.step == first and (compiled := compiled_so_far()):
                log.info("%s", compiled)
            self.step += 1
            end, finished = agreed.end, self.step == self.last_step
            self._means.add(agreed.row)
            row_due = self.step % every == 0 or self.step == 1 or finished or end
            if self._tracker and row_due:
                now, steps = time.perf_counter(), self.step - since
                values = {f"train/{name}": value for name, value in self._means.take().items()}
                values["time/step"] = (now - clock) / steps
                values["time/data"] = feed.waited / steps
                values["time/data_cpu"] = self._cpu + feed.cpu  # so far
                values["train/epoch"] = self.step / self.task.steps_per_epoch
                self._tracker.log(self.step, values)
                bar.update(self.step, self._pace(values))
                clock, since, feed.waited = now, self.step, 0.0
            due = finished or (self._evaluation and self.step % self._evaluation.every == 0)
            if self._evaluation and due and not end:
                try:
                    clock += self._evaluate(self._evaluation)
                except Interrupted as given_up:
                    end = given_up
            if end or finished or agreed.save or cadence.is_due(self.step):
                self._take(self._cpu + feed.cpu)
                cadence.saved()
            if end or finished:
                self._saver.commit()
            stopped = isinstance(agreed.end, Interrupted)
            if self._evaluation and finished and stopped:
                self._evaluate(self._evaluation)  # saved first: launchers wait 30 s
            if end and not (finished and stopped):
                raise end

    def _evaluate(self, evaluation: Evaluation) -> float:
        """Look at held-out samples; the seconds that it took. A collective call.

        Raises:
            Interrupted: on all ranks, where one waited for its samples as a signal came, or the
                time was up.
        """
        began = time.perf_counter()
        try:
            found = evaluation()
        except Interrupted as stopped:
            after = f"stopped after step {self.step}, in an evaluation"
            raise Interrupted(f"{after}; {GO_ON}") from stopped
        if self._tracker and found:
            self._tracker.log(self.step, {f"eval/{k}": value for k, value in found.items()})
            figures = (
                f"{name} {value:.4g}"
                if name not in ("samples", "missing")
                else f"{value:.0f} {name}"
                for name, value in found.items()
            )
            log.info("step %d, held out: %s", self.step, ", ".join(figures))
        return time.perf_counter() - began

    def _take(self, cpu: float) -> None:
        """Begin a checkpoint of this step; a collective call."""
        consumed = self.step * self.config.train.batch_size
        state = {"step": self.step, "consumed": consumed, "data_cpu": cpu}
        self._saver.take({**state, **self._identity})
        self._status("running")

    def _save(self, files: checkpoint.Files, state: dict[str, Any]) -> None:
        """Write a checkpoint, on the main rank's saving thread; then the status names it."""
        if self._folder.lost:
            raise self._folder.lost
        train = self.config.train
        milestones = (train.keep_every or 0) * self.task.steps_per_epoch
        checkpoint.save(self._folder.checkpoints, files, state, train.keep, milestones)
        self._folder.status.beat()

    def _pace(self, values: dict[str, float]) -> str:
        clips = self.config.views * self.config.train.batch_size / values["time/step"]
        return (
            f"loss {values['train/loss']:.3f}  {clips:,.0f} clips/s  "
            f"{values['time/data'] / values['time/step']:.0%} waiting for data"
        )

    def _reasons(self, feed: DeviceFeed, step: int) -> dict[Reason, Given]:
        """What this rank knows against a step after ``step``.

        The time is of the main rank's clock, and of another's where that gave up its waiting for
        clips while the main one waits for it.
        """
        gave_up = isinstance(feed.error, Interrupted)
        late = self._cadence.over(self._saver.longest) if self.runtime.main or gave_up else None
        time_up = Interrupted(f"stopped after step {step}, in time for {late}; {GO_ON}")
        return {
            Reason.UNWRITTEN: self._saver.error() or self._folder.lost,
            Reason.STOPPED: self._stop.raised,
            Reason.TIME: time_up if late else None,
            Reason.STARVED: feed.error,
        }

    def _train_step(self, feed: DeviceFeed) -> Agreed:
        """One optimizer step.

        The host waits for the device once, where all ranks agree.
        """
        config, task, runtime = self.config, self.task, self.runtime
        # What torch draws is a function of the step, too, so that resuming needs no state of it.
        number = config.run.seed * task.total_steps + self.step
        torch.manual_seed((number * runtime.ranks + runtime.rank) % (1 << 64))  # all it takes
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
        if self.step + 1 < self.last_step and not self._stop.raised:
            feed.fetch()
        self._cadence.step()
        own = self._reasons(feed, self.step + 1)
        square = self._gradients.square(runtime.ranks)
        save = runtime.main and self._cadence.is_due_by_clock()
        agreed = self._agreement.reach(self.step + 1, outcomes, square, own, save=save)
        self._gradients.set_norm(agreed.row["grad_norm"])
        lr = learning_rate(config, self.step, task.steps_per_epoch)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        self.engine.step()
        return agreed._replace(row={**agreed.row, **task.end_step(self.step), "lr": lr})

    def _restore(self) -> None:
        if self._resume is None:
            return
        for problem in self._resume.passed_over if self.runtime.main else ():
            log.warning("%s", problem)
        path = self._folder.checkpoints / self._resume.checkpoint
        checkpoint.restore(self.engine, self._segments, path)
        state = self._resume.state
        self.step, self._cpu = state["step"], state.get("data_cpu", 0.0)
        self._identity["run_id"] = state["run_id"]
        log.info("resumed from %s", path)
        for change in self._resume.changes if self.runtime.main else ():
            log.warning("from step %d on: %s", self.step + 1, change)

    def _status(self, state: State, reason: str | None = None) -> None:
        if self.runtime.main:
            self._folder.status.write(state, self.step, reason)
