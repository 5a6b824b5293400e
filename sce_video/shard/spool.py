"""Zipped archives, which cannot be read at random: unzipped one at a time while they are needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from sce_video.shard.sources import part_of
from sce_video.shard.sources.archive import CHUNK, reading
from sce_video.shard.worker import FileJob
from sce_video.shard.writer import PARTIAL

Result = TypeVar("Result")


def spooled(
    work: Callable[[Sequence[FileJob]], Iterator[Result]], jobs: Sequence[FileJob], folder: Path
) -> Generator[Result, None, None]:
    """Yield the results of ``work(jobs)``, where jobs on zipped archives find them unzipped.

    There are never more than two unzipped archives in ``folder``: the one worked on and the next;
    each is deleted when its jobs are done, and both when this generator is closed.

    Args:
        work: yields the results of jobs in their order.
        jobs: those of one archive next to each other.
        folder: where to unzip to.

    Raises:
        UsageError: an archive is damaged or cut.
    """
    groups = [
        (part, list(group))
        for part, group in groupby(jobs, key=lambda job: part_of(job.source, job.offset))
    ]
    with closing(_unzipped([part for part, _ in groups if part], folder)) as copies:
        for part, group in groups:
            if part is not None:
                copy = next(copies)
                group = [replace(job, source=copy) for job in group]
            yield from work(group)


def _unzipped(parts: Sequence[Path], folder: Path) -> Generator[Path, None, None]:
    """Yield an unzipped copy of each part, the next made meanwhile; it is gone afterwards."""
    copies = [folder / f"spool-{number:06d}.tar{PARTIAL}" for number in range(len(parts))]
    stop, room = threading.Event(), threading.Semaphore(2)
    with ThreadPoolExecutor(1) as thread:
        try:
            pairs = list(zip(parts, copies, strict=True))
            made = [thread.submit(_unzip, *pair, stop, room) for pair in pairs]
            for copy, done in zip(copies, made, strict=True):
                done.result()
                yield copy
                copy.unlink()
                room.release()
        finally:
            stop.set()
            room.release()
            thread.shutdown(cancel_futures=True)
            for copy in copies:
                copy.unlink(missing_ok=True)


def _unzip(part: Path, copy: Path, stop: threading.Event, room: threading.Semaphore) -> None:
    room.acquire()
    with reading(part) as stream, copy.open("wb") as target:
        while not stop.is_set() and (data := stream.read(CHUNK)):
            target.write(data)
