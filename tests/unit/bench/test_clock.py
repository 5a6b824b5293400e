"""Laps by the host's clock, and by a device's events, which a fake one makes here."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from sce_video.bench.clock import Clock


def test_laps_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([1.0, 1.5, 3.5, 3.75, 10.0, 10.25])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    clock = Clock(torch.device("cpu"))
    clock.start()
    for part in ("forward", "backward", "forward"):
        clock.lap(part)
    clock.start()
    clock.lap("forward")
    spent = clock.read()
    assert spent == [{"forward": 0.75, "backward": 2.0}, {"forward": 0.25}]
    assert list(spent[0]) == ["forward", "backward"]
    assert clock.read() == []  # what was read is gone


class _Device:
    """A stream that takes 10 ms for each thing it is given, and events in it."""

    def __init__(self) -> None:
        self.done = 0.0  # ms at which all that was given will be done
        self.waits = 0

    def event(self, **options: Any) -> _Event:
        assert options == {"enable_timing": True}
        return _Event(self)


class _Event:
    def __init__(self, device: _Device) -> None:
        self._device = device
        self.at: float | None = None

    def record(self) -> None:
        self.at = self._device.done

    def synchronize(self) -> None:
        self._device.waits += 1

    def elapsed_time(self, end: _Event) -> float:
        assert end.at is not None
        assert self.at is not None
        return end.at - self.at


def test_laps_of_a_gpu_are_events_and_wait_once(monkeypatch: pytest.MonkeyPatch) -> None:
    device = _Device()
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    clock = Clock(torch.device("cuda"))
    for _ in range(2):
        clock.start()
        for part, kernels in {"augment": 1, "forward": 3, "backward": 5}.items():
            device.done += 10 * kernels
            clock.lap(part)
        device.done += 1000  # of no step
    assert device.waits == 0
    each = pytest.approx({"augment": 0.01, "forward": 0.03, "backward": 0.05})
    assert clock.read() == [each, each]
    assert device.waits == 1
