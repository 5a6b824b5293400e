"""Batches of uint8 clips from worker processes: read, decode, cut.

This module is what workers import: no deepspeed here.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.queues
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_convert

from sce_video.errors import SceVideoError, first_line
from sce_video.stream.batches import LOOK, Batches
from sce_video.stream.clips import ViewSampler
from sce_video.stream.cut import make_clips
from sce_video.stream.order import Position
from sce_video.stream.reader import ShardReader
from sce_video.stream.watch import Desk, note, sample_limit, sit_down
from sce_video.stream.worker_errors import UNSENT
from sce_video.video.decode import Backend, DecodeError
from sce_video.video.decode.torchcodec import require_cuda


@dataclass
class ClipBatch:
    """A rank's micro-batch. V views, B samples."""

    views: list[Tensor]  # V tensors [B,T,3,S,S] uint8, channels last in memory
    rows: NDArray[np.int64]  # [B] rows of the index, after substitution
    epochs: NDArray[np.int64]  # [B]
    labels: Tensor  # [B] int64, -1 = none
    names: list[str] = field(default_factory=list)  # [B] shard/key
    bad: list[tuple[str, str]] = field(default_factory=list)  # (shard/key, reason)
    cpu: float = 0.0  # seconds of CPU it took to make

    def pin_memory(self) -> ClipBatch:
        """The same in memory that a GPU reads while the host goes on; the loader calls it."""
        return replace(
            self, views=[v.pin_memory() for v in self.views], labels=self.labels.pin_memory()
        )


def stack_clips(clips: Sequence[Tensor]) -> Tensor:
    """``[B,T,3,S,S]``, channels last in memory: turning them would cost as much as resizing."""
    return torch.stack([clip.permute(0, 2, 3, 1) for clip in clips]).permute(0, 1, 4, 2, 3)


class ClipDataset(Dataset[ClipBatch]):
    """Batches by lists of positions; a bad sample is replaced by the next substitute."""

    def __init__(
        self,
        reader: ShardReader,
        sampler: ViewSampler,
        *,
        substitutes: NDArray[np.int64] | None = None,
        antialias: bool = True,
        decode: Backend | Literal["cuda"] = "planned",
    ) -> None:
        """``substitutes``: rows that may stand in for a bad sample; None = leave it out.

        Raises:
            UsageError: ``decode`` is ``cuda`` and there is no GPU.
        """
        self.reader, self.sampler = reader, sampler
        self.substitutes = substitutes
        self.on_gpu = decode == "cuda"
        if self.on_gpu:
            require_cuda()
        self._make = partial(make_clips, antialias=antialias, backend=decode)

    def __getitems__(self, positions: list[Position]) -> ClipBatch:
        """Make one micro-batch; called in a worker."""
        began = time.process_time()
        bad: dict[int, str] = {}  # row -> reason, stand-ins included
        samples = [found for p in positions if (found := self._sample(p, bad)) is not None]
        rows = np.array([row for row, _, _ in samples], np.int64)
        return ClipBatch(
            views=[stack_clips(clips) for clips in zip(*(c for _, _, c in samples), strict=True)],
            rows=rows,
            epochs=np.array([epoch for _, epoch, _ in samples], np.int64),
            labels=torch.from_numpy(self.reader.labels[rows].astype(np.int64)),
            names=[self.reader.name(row) for row in rows.tolist()],
            bad=[(self.reader.name(p.row), bad[p.row]) for p in positions if p.row in bad],
            cpu=time.process_time() - began,
        )

    def _sample(
        self, position: Position, bad: dict[int, str]
    ) -> tuple[int, int, list[Tensor]] | None:
        """Row, epoch and clips of one sample, or of the next in the set that can be read."""
        row, chain = position.row, self.substitutes
        for _ in range(1 if chain is None else len(chain)):
            if row not in bad:
                try:
                    media = self.reader.media(row)  # may fetch its shard
                    with sample_limit(self.reader.name(row)):
                        specs = self.sampler(self.reader.video(row), position.epoch, row)
                        index = self.reader.packets(row)
                        return row, position.epoch, self._make(media, specs, index)
                except DecodeError as error:
                    bad[row] = str(error)
            if chain is not None:
                row = int(chain[(int(np.searchsorted(chain, row)) + 1) % len(chain)])
        if chain is None:
            return None
        # A batch that lacks a sample would leave the other ranks waiting.
        raise SceVideoError(f"no sample can be read; the last: {self.reader.name(row)}: {bad[row]}")


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def _worker_init(desk: Desk, number: int) -> None:
    """Signals are the trainer's business: it finishes its step and then stops its workers.

    A thread waits for the trainer's own end: DataLoader watches a worker's parent, and that is the
    fork server, which lives as long as its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_die_with_trainer, daemon=True).start()
    keep_memory(1 << 25, 1 << 28)  # to fault frames in again costs 7%
    sit_down(desk, number)
    # A batch that cannot be sent would be lost without a word, and waited for.
    multiprocessing.queues.Queue._on_queue_feeder_error = _cannot_send  # type: ignore[attr-defined]


def _cannot_send(queue: object, error: Exception, batch: object) -> None:
    """End this worker, and leave behind why; the first argument is none where Python gives two."""
    note(f"{UNSENT}{first_line(error)}")
    os._exit(1)


def keep_memory(block: int, free: int) -> None:
    """Let this process use its freed memory again, which glibc would give back each time.

    Args:
        block: bytes up to which a block comes out of the heap.
        free: bytes of the heap's end that may stay free; -1 = any.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # another C library has none
        mallopt(_M_MMAP_THRESHOLD, block)
        mallopt(_M_TRIM_THRESHOLD, free)


def _die_with_trainer() -> None:
    if (trainer := multiprocessing.parent_process()) is not None:
        multiprocessing.connection.wait([trainer.sentinel])
        os._exit(1)


def start_fork_server() -> None:
    """Begin to start what workers are forked from: seconds of imports, while we go on with ours."""
    multiprocessing.forkserver.set_forkserver_preload(["sce_video.stream.loader"])
    multiprocessing.forkserver.ensure_running()


def never() -> bool:
    """Whether somebody wants the waiting to end."""
    return False


def load(
    dataset: ClipDataset | IterableDataset[ClipBatch],
    batches: Iterable[list[Position]] | None,
    *,
    workers: int,
    pin: bool = False,
    stopped: Callable[[], bool] = never,
) -> Batches:
    """Iterate over ``batches`` in order, made by ``workers`` processes (0 = in this one).

    Without ``batches`` the dataset itself says what they are; the workers take turns. What is
    decoded on the GPU is made in this process: its clips need not travel.

    Args:
        dataset: makes them.
        batches: lists of positions.
        workers: processes; they start now.
        pin: move batches to memory that a GPU reads.
        stopped: asked every second that a batch is waited for; True ends the waiting.
    """
    on_gpu = isinstance(dataset, ClipDataset) and dataset.on_gpu
    workers = 0 if on_gpu else workers
    if workers:
        start_fork_server()
    desk = Desk(workers)
    loader: DataLoader[ClipBatch] = DataLoader(
        dataset,
        batch_size=None if batches is None else 1,
        batch_sampler=batches,  # any iterable of lists will do
        num_workers=workers,
        collate_fn=default_convert,  # leaves a batch as it is
        worker_init_fn=partial(_worker_init, desk),
        multiprocessing_context="forkserver" if workers else None,
        pin_memory=pin and not on_gpu,
        timeout=LOOK if workers else 0,
    )
    return Batches(iter(loader), desk, stopped)
