"""When a run saves, and when its time is up; the main rank's clock decides for all."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

from sce_video.config.tasks import Config

_LEAVE = 60.0  # seconds that a job of SLURM's is left, to end by itself


class Cadence:
    """The clock of one start of a run.

    It ends where another step and checkpoint, each twice as long as the longest so far, would not
    fit any more.
    """

    def __init__(
        self, config: Config, epoch_steps: int, clock: Callable[[], float] = time.time
    ) -> None:
        """``epoch_steps``: optimizer steps an epoch; ``clock``: seconds, as ``time.time``."""
        self._clock = clock
        count, unit = config.train.save_interval
        self._minutes = count if unit == "min" else None
        self._steps = int(count) * (epoch_steps if unit == "epochs" else 1)
        self._milestone = (config.train.keep_every or 0) * epoch_steps
        self._saved = now = clock()
        self._before: float | None = None  # the end of the step before
        self._longest = 0.0  # seconds of a step, without the first, which compiles
        hours, end = config.run.max_hours, os.environ.get("SLURM_JOB_END_TIME", "")
        self._ends = {}  # what -> when
        if hours:
            self._ends[f"run.max_hours={hours:g}"] = now + 3600 * hours
        if re.fullmatch(r"[0-9]{1,15}", end):
            self._ends["SLURM's time limit"] = int(end) - _LEAVE

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is due after ``step``, the same on every rank."""
        by_steps = self._minutes is None and step % self._steps == 0
        return by_steps or bool(self._milestone and step % self._milestone == 0)

    def is_due_by_clock(self) -> bool:
        """Whether minutes ask for a checkpoint; to be asked of the main rank alone."""
        return self._minutes is not None and self._clock() - self._saved >= 60 * self._minutes

    def step(self) -> None:
        """A step is over: how long did it take."""
        now = self._clock()
        if self._before is not None:
            self._longest = max(self._longest, now - self._before)
        self._before = now

    def over(self, save_seconds: float) -> str | None:
        """What ends the run now.

        Args:
            save_seconds: the longest that a checkpoint took so far.
        """
        latest = self._clock() + 2 * (self._longest + save_seconds)
        return next((what for what, end in self._ends.items() if latest >= end), None)

    def saved(self) -> None:
        """A checkpoint was begun: minutes count from here."""
        self._saved = self._clock()
