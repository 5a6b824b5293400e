"""Batches of uint8 clips from worker processes: read, decode, difference, crop, resize.

This module is what workers import: no deepspeed here.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sce_video.errors import SceVideoError
from sce_video.shard.packets import PacketIndex
from sce_video.stream.clips import ClipSpec, ViewSampler
from sce_video.stream.decode import DecodeError, decode_frames
from sce_video.stream.order import Position
from sce_video.stream.shards import ShardReader

_LUMA = np.array([0.2989, 0.587, 0.114], dtype=np.float32)  # ITU-R 601


@dataclass
class ClipBatch:
    """A rank's micro-batch. V views, B samples."""

    views: list[Tensor]  # V tensors [B,T,3,S,S] uint8
    rows: NDArray[np.int64]  # [B] rows of the index, after substitution
    epochs: NDArray[np.int64]  # [B]
    labels: Tensor  # [B] int64, -1 = none
    names: list[str] = field(default_factory=list)  # [B] shard/key
    bad: list[tuple[str, str]] = field(default_factory=list)  # (shard/key, reason)
    cpu: float = 0.0  # seconds of CPU it took to make


def make_clips(
    data: bytes,
    specs: Sequence[ClipSpec],
    index: PacketIndex | None = None,
    *,
    antialias: bool = True,
) -> list[Tensor]:
    """Decode once what all ``specs`` of a video need, and cut them.

    Args:
        data: the video file's bytes.
        specs: the clips to make.
        index: the video's packet index, if it has one.
        antialias: low-pass before shrinking; the published code does not.

    Returns:
        One tensor ``[T,3,S,S]`` uint8 a spec.

    Raises:
        DecodeError: the video does not give the frames.
    """
    needed = np.unique(np.concatenate([numbers for spec in specs for numbers in _needed(spec)]))
    frames = decode_frames(data, needed, index)
    resized: dict[tuple[bytes, bool, tuple[int, int]], Tensor] = {}
    clips = []
    for spec in specs:
        key = (spec.frames.tobytes(), spec.difference, spec.scale or (0, 0))
        if key not in resized:
            parts = [frames[np.searchsorted(needed, numbers)] for numbers in _needed(spec)]
            picked = temporal_difference(*parts) if spec.difference else parts[0]
            whole = torch.from_numpy(picked).permute(0, 3, 1, 2)  # NCHW view of NHWC: the fast path
            resized[key] = _resize(whole, spec.scale, antialias) if spec.scale else whole
        top, left, height, width = spec.box
        crop = resized[key][:, :, top : top + height, left : left + width]
        clips.append(_resize(crop, (spec.size, spec.size), antialias).contiguous())
    return clips


def _needed(spec: ClipSpec) -> list[NDArray[np.int64]]:
    """Display numbers to decode: the clip's, and with temporal difference their successors.

    The clip's last frame has no successor: its difference is the one before it.
    """
    if not spec.difference:
        return [spec.frames]
    last = spec.frames[-1]
    base = np.minimum(spec.frames, max(last - 1, spec.frames[0]))
    return [base, np.minimum(base + 1, last)]


def temporal_difference(
    frames: NDArray[np.uint8], following: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Half the luma's change to the next frame, around mid-grey, on three channels.

    ``(gray_t - gray_{t+1} + 255) / 2`` with the luma truncated to an integer and the result
    rounded: the released uint8 path. ``[T,H,W,3]`` uint8 -> the same.
    """
    gray, next_gray = ((x @ _LUMA).astype(np.int16) for x in (frames, following))
    half = np.rint((gray - next_gray + 255) / 2).astype(np.uint8)
    return np.repeat(half[..., None], 3, axis=-1)


def _resize(images: Tensor, size: tuple[int, int], antialias: bool) -> Tensor:
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=antialias, align_corners=False)


class ClipDataset(Dataset[ClipBatch]):
    """Batches by lists of positions; a bad sample is replaced by the next one of its epoch."""

    def __init__(
        self,
        reader: ShardReader,
        sampler: ViewSampler,
        *,
        substitutes: NDArray[np.int64] | None = None,
        antialias: bool = True,
    ) -> None:
        """``substitutes``: rows that may stand in for a bad sample; None = leave it out."""
        self.reader, self.sampler = reader, sampler
        self.substitutes, self.antialias = substitutes, antialias

    def __getitem__(self, index: Any) -> ClipBatch:
        raise NotImplementedError("read by batches")

    def __getitems__(self, positions: list[Position]) -> ClipBatch:
        """Make one micro-batch; called in a worker."""
        began = time.process_time()
        batch = ClipBatch([], np.zeros(0, np.int64), np.zeros(0, np.int64), torch.zeros(0))
        samples = [found for p in positions if (found := self._sample(p, batch.bad)) is not None]
        batch.rows = np.array([row for row, _, _ in samples], dtype=np.int64)
        batch.epochs = np.array([epoch for _, epoch, _ in samples], dtype=np.int64)
        batch.labels = torch.from_numpy(self.reader.labels[batch.rows].astype(np.int64))
        batch.names = [self.reader.name(row) for row, _, _ in samples]
        if samples:
            columns = zip(*(clips for _, _, clips in samples), strict=True)
            batch.views = [torch.stack(clips) for clips in columns]
        batch.cpu = time.process_time() - began
        return batch

    def _sample(
        self, position: Position, bad: list[tuple[str, str]]
    ) -> tuple[int, int, list[Tensor]] | None:
        """Row, epoch and clips of one sample, or of what stands in for it."""
        row = position.row
        while True:
            try:
                specs = self.sampler(self.reader.video(row), position.epoch, row)
                media, index = self.reader.media(row), self.reader.packets(row)
                clips = make_clips(media, specs, index, antialias=self.antialias)
                return row, position.epoch, clips
            except DecodeError as error:
                bad.append((self.reader.name(row), str(error)))
            if self.substitutes is None or len(bad) > len(self.substitutes):
                return None
            place = int(np.searchsorted(self.substitutes, row))
            row = int(self.substitutes[(place + 1) % len(self.substitutes)])


def _whole(batch: Any) -> Any:
    return batch


def _worker_init(_: int) -> None:
    """Signals are the trainer's business: it finishes its step and then stops its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def load(
    dataset: ClipDataset | IterableDataset[ClipBatch],
    batches: Iterable[list[Position]] | None,
    *,
    workers: int,
    pin: bool = False,
) -> Iterator[ClipBatch]:
    """Iterate over ``batches`` in order, made by ``workers`` processes (0 = in this one).

    Without ``batches`` the dataset itself says what they are; the workers take turns.
    """
    context = None
    if workers:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["sce_video.stream.loader"])
    loader: DataLoader[ClipBatch] = DataLoader(
        dataset,
        batch_size=None if batches is None else 1,
        batch_sampler=batches,  # any iterable of lists will do
        num_workers=workers,
        collate_fn=_whole,
        worker_init_fn=_worker_init,
        multiprocessing_context=context,
        pin_memory=pin,
    )
    iterator = iter(loader)  # starts the workers now
    if workers:
        # After an error the iterator outlives us, and Python's own exit would wait for workers that
        # it ends by SIGTERM, which they ignore. Exit hooks run last in, first out.
        atexit.register(iterator._shutdown_workers)  # type: ignore[attr-defined]
    return _plain_errors(iterator)


def _plain_errors(batches: Iterator[ClipBatch]) -> Iterator[ClipBatch]:
    """Pass batches on; an error of ours that a worker met loses the traceback in its message."""
    try:
        yield from batches
    except SceVideoError as error:
        *_, last = str(error).strip().splitlines()
        name = f"{type(error).__module__}.{type(error).__qualname__}: "
        raise type(error)(last.removeprefix(name)) from error
