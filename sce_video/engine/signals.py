"""Signals become a flag; the trainer stops after the step it is in."""

from __future__ import annotations

import signal
import time
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_ONCE = 5.0  # seconds in which repeated signals count once: launchers forward, terminals repeat


class StopFlag:
    """Context in which SIGINT, SIGTERM and SIGUSR1 set :attr:`raised` instead of ending us.

    A further signal, later than 5 s after the first, ends the process at once.
    """

    def __init__(self) -> None:
        self.raised = False
        self._since = 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopFlag:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.raised and now - self._since > _ONCE:
            raise KeyboardInterrupt
        if not self.raised:
            self.raised, self._since = True, now
