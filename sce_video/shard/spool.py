"""Zipped archives, which cannot be read at random: unzipped one at a time while they are needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from sce_video.files import PARTIAL, named
from sce_video.shard.sources.archive import CHUNK, reading
from sce_video.shard.worker import FileJob

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
    groups = [(part, list(group)) for part, group in groupby(jobs, key=lambda job: job.record.part)]
    with closing(_unzipped([part for part, _ in groups if part], folder)) as copies:
        for part, group in groups:
            copy = next(copies) if part else None
            yield from work([replace(job, copy=copy) for job in group] if copy else group)


def _unzipped(parts: Sequence[Path], folder: Path) -> Generator[Path, None, None]:
    """Yield an unzipped copy of each part, the next made meanwhile; it is gone afterwards."""
    copies = [folder / f"spool-{number:06d}.tar{PARTIAL}" for number in range(len(parts))]
    pairs = list(zip(parts, copies, strict=True))
    made: list[Future[None]] = []
    stop = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        try:
            for number, copy in enumerate(copies):
                two = pairs[len(made) : number + 2]
                made += [thread.submit(_unzip, part, place, stop) for part, place in two]
                made[number].result()
                yield copy
                copy.unlink()
        finally:
            stop.set()
            thread.shutdown(cancel_futures=True)
            for copy in copies:
                copy.unlink(missing_ok=True)


def _unzip(part: Path, copy: Path, stop: threading.Event) -> None:
    with reading(part) as stream, named(copy), copy.open("wb") as target:
        while not stop.is_set():
            with named(part):
                data = stream.read(CHUNK)
            if not data:
                return
            target.write(data)
