"""The next micro-batch is on the device before the step in hand is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sce_video.errors import SceVideoError
from sce_video.stream.feed import DeviceFeed
from sce_video.stream.loader import ClipBatch

CPU = torch.device("cpu")


def batch(number: int) -> ClipBatch:
    views = [torch.full((2, 1, 3, 4, 4), number, dtype=torch.uint8) for _ in range(2)]
    rows = np.array([number, number])
    return ClipBatch(views, rows, rows, torch.tensor([number, -1]), cpu=0.5)


def test_micro_batches_come_in_order_and_the_next_is_made_behind_the_one_in_hand() -> None:
    made: list[int] = []
    taken: list[int] = []

    def batches() -> Iterator[ClipBatch]:
        for number in range(6):
            taken.append(number)
            yield batch(number)

    def augment(one: ClipBatch) -> list[Tensor]:
        made.append(int(one.rows[0]))
        return [view.float() for view in one.views]

    feed = DeviceFeed(batches(), 2, augment, CPU)
    assert list(feed.step()) == []
    feed.fetch()
    assert (taken, made) == ([0, 1], [0])
    assert float(feed.first()[0].mean()) == 0
    for step in range(3):
        for micro, ready in enumerate(feed.step()):
            number = 2 * step + micro
            assert made[-1] == number
            assert float(ready.views[1].mean()) == number
            assert ready.labels.tolist() == [number, -1]
            assert ready.batch.rows.tolist() == [number, number]
        if step < 2:
            feed.fetch()
            assert taken[-1] == 2 * step + 3
            assert made[-1] == 2 * step + 2
    assert made == list(range(6))
    assert feed.cpu == 3.0
    assert feed.waited > 0


def test_why_there_are_none_waits_for_the_others() -> None:
    error = SceVideoError("no clips")

    def batches() -> Iterator[ClipBatch]:
        yield batch(0)
        raise error

    feed = DeviceFeed(batches(), 1, lambda one: one.views, CPU)
    feed.fetch()
    assert feed.error is None
    assert len(list(feed.step())) == 1
    feed.fetch()
    assert feed.error is error
    assert list(feed.step()) == []


@pytest.mark.parametrize("error", [OSError(5, "broken"), MemoryError("all of it")])
def test_what_this_process_cannot_read_is_told_to_the_other_ranks(error: Exception) -> None:
    """It would be alone with it, and they in the middle of a step."""

    def batches() -> Iterator[ClipBatch]:
        raise error
        yield batch(0)

    feed = DeviceFeed(batches(), 1, lambda one: one.views, CPU)
    feed.fetch()
    assert str(feed.error) == f"no more clips: {error}"


class Gpu:
    """Streams that write down what is asked of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.stream = "main"
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(self, "side"))
        monkeypatch.setattr(torch.cuda, "stream", self.inside)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream(self, self.stream))
        monkeypatch.setattr(Tensor, "record_stream", lambda _, s: self.log.append(f"kept {s.name}"))
        monkeypatch.setattr(Tensor, "to", lambda *a, **flags: self.to(*a, **flags))

    @contextmanager
    def inside(self, stream: Any) -> Iterator[None]:
        self.stream = stream.name
        yield
        self.stream = "main"

    def to(self, tensor: Tensor, _: torch.device, non_blocking: bool = False) -> Tensor:
        self.log.append(f"copy {self.stream} {'behind' if non_blocking else 'waited for'}")
        return tensor


class Stream:
    def __init__(self, gpu: Gpu, name: str) -> None:
        self.gpu, self.name = gpu, name

    def record_event(self) -> str:
        self.gpu.log.append(f"event {self.name}")
        return "made"

    def wait_event(self, event: str) -> None:
        self.gpu.log.append(f"{self.name} waits for {event}")


def test_on_a_gpu_it_is_made_on_another_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch)

    def augment(one: ClipBatch) -> list[Tensor]:
        gpu.log.append(f"augment {gpu.stream}")
        return one.views

    def batches() -> Iterator[ClipBatch]:  # clips that the GPU decodes are made here
        for number in range(2):
            gpu.log.append(f"fetch {gpu.stream}")
            yield batch(number)

    feed = DeviceFeed(batches(), 1, augment, torch.device("cuda", 0))
    feed.fetch()
    made = ["fetch side", "copy side behind", "augment side", "event side"]
    assert gpu.log == made
    gpu.log.clear()
    for _ in feed.step():
        gpu.log.append("compute")
    feed.fetch()
    step = ["main waits for made", *["kept main"] * 3, "compute"]
    assert gpu.log == step + made
