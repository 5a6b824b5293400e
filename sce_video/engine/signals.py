"""Signals become a flag; the trainer stops after the step it is in."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType

from sce_video.processes import PARENT, command, stat

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_ONCE = 5.0  # seconds in which repeated signals count once: launchers forward, terminals repeat
_LOOK = 1.0  # seconds between looks at the launcher


class StopFlag:
    """Context in which SIGINT, SIGTERM and SIGUSR1 set :attr:`raised` instead of ending us.

    A further SIGINT or SIGTERM, later than 5 s after the first, ends the process at once. Where one
    came, the handlers stay when the context is left: the process is about to end by itself.
    """

    def __init__(self) -> None:
        self.raised = False
        self._since = 0.0

    def __enter__(self) -> StopFlag:
        self._previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        if not self.raised:
            for number, previous in self._previous.items():
                signal.signal(number, previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        # SIGUSR1 is a notice, from schedulers and from our watch: never an order to end at once.
        if self.raised and now - self._since > _ONCE and number != signal.SIGUSR1:
            raise KeyboardInterrupt
        if not self.raised:
            self.raised, self._since = True, now


def deepspeed_launcher() -> int | None:
    """Process id of DeepSpeed's ``launch.py``, if that started this process."""
    parent = os.getppid()
    return parent if "deepspeed.launcher.launch" in command(parent) else None


def watch_launcher() -> None:
    """Send ourselves SIGUSR1 once DeepSpeed's launcher is gone; under any other do nothing.

    ``deepspeed`` starts ``launch.py``, and that the ranks. Whoever of the two is killed leaves what
    it started behind, and a SIGTERM to the first never reaches the ranks.
    """
    launch = deepspeed_launcher()
    if launch is None:
        return
    runner = stat(launch, PARENT)
    if not {"deepspeed", "ds"} & {Path(word).name for word in command(runner)[:2]}:
        runner = None  # a shell of pdsh, a batch script: they may leave

    def watch() -> None:
        while os.getppid() == launch and (runner is None or stat(launch, PARENT) == runner):
            time.sleep(_LOOK)
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=watch, daemon=True).start()
