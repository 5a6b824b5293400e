"""Laps of a step, by the clock of the device that works."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import torch


def now(device: torch.device) -> float:
    """Seconds, once ``device`` has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Clock:
    """What lies between two laps of a step is a part's time.

    On CUDA laps are events in the current stream: the device is not waited for before :meth:`read`,
    and what it idles counts to the part whose kernels it waits for.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._steps: list[list[tuple[str, Any]]] = []  # laps

    def start(self) -> None:
        """Begin a step."""
        self._steps.append([("", self._now())])

    def lap(self, part: str) -> None:
        """What was done since the last lap, or the start, was ``part``; it may come again."""
        self._steps[-1].append((part, self._now()))

    def read(self) -> list[dict[str, float]]:
        """Seconds of each part of each step since the last reading."""
        if self._cuda and self._steps:
            self._steps[-1][-1][1].synchronize()
        steps, self._steps = self._steps, []
        return [self._parts(laps) for laps in steps]

    def _parts(self, laps: list[tuple[str, Any]]) -> dict[str, float]:
        spent: dict[str, float] = {}
        for (_, before), (part, after) in pairwise(laps):
            seconds = before.elapsed_time(after) / 1000 if self._cuda else after - before
            spent[part] = spent.get(part, 0.0) + seconds
        return spent

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event
