"""A conversion as a command runs it: on this machine or on Ray, with progress and signals."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from sce_video.progress import Progress
from sce_video.shard.convert import ConversionState, convert
from sce_video.shard.plan import ConversionPlan
from sce_video.shard.pool import Pool
from sce_video.terminal import note

Executor = Literal["local", "ray"]


def run(
    plan: ConversionPlan,
    folder: Path,
    *,
    executor: Executor,
    workers: int | None,
    max_rejects: float,
    overwrite: bool,
) -> bool:
    """Convert ``plan`` into ``folder``; the first Ctrl-C lets the shard in work be finished.

    Args:
        plan: what to convert.
        folder: of the set.
        executor: where the decoding processes run.
        workers: how many; None = one a core.
        max_rejects: fraction of unreadable files above which it fails.
        overwrite: delete the set in ``folder`` first.

    Returns:
        Whether anything had to be done.

    Raises:
        KeyboardInterrupt: a signal came.
        SceVideoError: as :func:`~sce_video.shard.convert.convert`.
    """
    with contextlib.ExitStack() as stack:
        pool_type: type[Pool[Any, Any]] = Pool
        cores = len(os.sched_getaffinity(0))
        if executor == "ray":
            from sce_video.shard.ray import RayPool, cluster

            pool_type, cores = RayPool, stack.enter_context(cluster())
        signals = stack.enter_context(Signals())  # Ray sets its own, so after it
        bar = stack.enter_context(Progress(plan.samples, plan.media))

        def tell(now: ConversionState) -> None:
            if now.writing and not signals.writing and now.shards:
                note(f"{now.shards:,} shards are finished: going on")
            signals.writing, done = now.writing, now.samples + now.rejected
            if now.writing:
                bar.update(done, f"{now.rejected:,} rejected")
            else:
                bar.skip(done)

        _, worked = convert(
            plan,
            folder,
            workers=workers or cores,
            max_rejects=max_rejects,
            overwrite=overwrite,
            on_progress=tell,
            stopping=lambda: signals.stopping,
            pool_type=pool_type,
        )
    return worked


class Signals:
    """Context: the first Ctrl-C lets the shard in work be finished.

    The second one, and SIGTERM, which schedulers send, raise KeyboardInterrupt.
    """

    writing = ""  # what a first Ctrl-C waits for; "" = nothing, it stops at once
    stopping = False

    def __enter__(self) -> Signals:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.writing and not self.stopping:
            self.stopping = True
            # Not print: the signal may have come in the middle of one.
            os.write(2, f"finishing {self.writing}; Ctrl-C again stops at once\n".encode())
            return
        for again in self._before:
            signal.signal(again, signal.SIG_IGN)  # the workers are being ended
        raise KeyboardInterrupt
