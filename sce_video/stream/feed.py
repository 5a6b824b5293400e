"""Between loader and loop: the micro-batches of a step, on the device before they are asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from sce_video.errors import SceVideoError, first_line
from sce_video.stream.batches import Batches
from sce_video.stream.loader import ClipBatch


class Ready(NamedTuple):
    """A micro-batch that is on the device."""

    batch: ClipBatch  # as the loader made it
    views: list[Tensor]  # V tensors [B,3,T,S,S] float32, normalised
    labels: Tensor  # [B] int64, -1 = none


def make_ready(
    batch: ClipBatch, augment: Callable[[ClipBatch], list[Tensor]], device: torch.device
) -> Ready:
    """Queue the making of a micro-batch on ``device``, by ``augment``; it is not waited for."""
    labels = batch.labels.to(device, non_blocking=True)
    return Ready(batch, augment(batch), labels)


class DeviceFeed:
    """The micro-batches of the next step, and what it costs to get them.

    They are fetched from the loader a step ahead: one rank alone cannot leave the others in the
    middle of a step. On a GPU the next one is copied and augmented on a stream of its own, queued
    behind the work of the one in hand and before the loop waits for the device.
    """

    def __init__(
        self,
        batches: Iterator[ClipBatch],
        count: int,
        augment: Callable[[ClipBatch], list[Tensor]],
        device: torch.device,
    ) -> None:
        """Start empty.

        Args:
            batches: of uint8 clips, as the loader gives them.
            count: micro-batches a step.
            augment: makes a micro-batch's views on ``device``.
            device: of the network.
        """
        self._batches, self._count, self._augment = batches, count, augment
        self._device = device
        cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        self._fetched: list[ClipBatch] = []
        self._next: Ready | None = None
        self._done: torch.cuda.Event | None = None  # of what makes the next
        self.error: SceVideoError | None = None  # why there are none
        self.waited = 0.0  # seconds, since this was last set to 0
        self.cpu = 0.0  # seconds of this rank's workers

    def fetch(self) -> None:
        """Take the next step's; the other ranks hear of a failure when all agree on the step."""
        start = time.perf_counter()
        try:
            with self._aside():  # some clips are decoded on the device
                self._fetched = [next(self._batches) for _ in range(self._count)]
        except SceVideoError as error:
            self.error = error
        except (OSError, MemoryError) as error:
            self.error = SceVideoError(f"no more clips: {first_line(error)}")
        self.waited += time.perf_counter() - start
        self._prepare()

    def close(self) -> None:
        """End the workers, if there are any."""
        if isinstance(self._batches, Batches):
            self._batches.close()

    def first(self) -> list[Tensor]:
        """The views of the micro-batch that comes next."""
        return self._take().views

    def step(self) -> Iterator[Ready]:
        """The micro-batches that were fetched; while one is in hand the next is made."""
        while self._next:
            ready, self._next = self._take(), None
            self.cpu += ready.batch.cpu
            yield ready
            self._prepare()

    def _prepare(self) -> None:
        """Begin to make the next one that was fetched, if there is any."""
        if self._fetched and not self._next:
            batch = self._fetched.pop(0)
            with self._aside():
                self._next = make_ready(batch, self._augment, self._device)
                self._done = self._stream.record_event() if self._stream else None

    def _aside(self) -> AbstractContextManager[object]:
        """Where what is queued runs beside the step."""
        return torch.cuda.stream(self._stream) if self._stream else nullcontext()

    def _take(self) -> Ready:
        """The next one: what is queued from here on comes behind its making."""
        if self._next is None:
            raise RuntimeError("nothing was fetched")
        if self._done:
            here = torch.cuda.current_stream(self._device)
            here.wait_event(self._done)
            for tensor in (*self._next.views, self._next.labels):
                tensor.record_stream(here)  # else its memory could be taken while it is read
        return self._next
