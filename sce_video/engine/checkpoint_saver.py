"""When checkpoints are made: taken at a step, written by a thread while training goes on.

What is in them, and how it is written and read, is in ``checkpoint.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import torch
import torch.distributed as dist

from sce_video.engine import checkpoint
from sce_video.engine.zero_layout import Segment
from sce_video.errors import SceVideoError


class CheckpointSaver:
    """Checkpoints of one engine, one at a time; the main rank's thread writes.

    All but :meth:`settle` and :meth:`error` are collective calls.
    """

    def __init__(self, engine: Any, segments: list[Segment], write: Callable[..., None]) -> None:
        """``write``: :func:`checkpoint.save` to a folder; is given tensors and state."""
        self._engine, self._segments, self._write = engine, segments, write
        self._thread = ThreadPoolExecutor(1)
        self.longest = 0.0
        """Seconds that the longest took, until it was on the disk."""
        self._writing: Future[None] | None = None

    def take(self, state: dict[str, Any]) -> None:
        """Copy the state as it is now, and begin to write it.

        Raises:
            SceVideoError: the one before could not be written.
        """
        self.commit()
        files = checkpoint.full_state(self._engine, self._segments)
        if dist.get_rank() == 0:
            self._writing = self._thread.submit(self._save, files, state)

    def _save(self, files: checkpoint.Files, state: dict[str, Any]) -> None:
        began = time.monotonic()
        self._write(files, state)
        self.longest = max(self.longest, time.monotonic() - began)

    def commit(self) -> None:
        """Wait until what was taken is written: no rank leaves or takes another before.

        Raises:
            SceVideoError: it could not be written.
        """
        self.settle()
        error = self.error()
        failed = torch.tensor(float(error is not None), device=self._engine.device)
        dist.all_reduce(failed)
        if failed > 0:
            raise error or SceVideoError("no checkpoint was written; the main rank says why")

    def settle(self) -> None:
        """Wait for the thread, on this rank alone."""
        if self._writing:
            wait([self._writing])

    def error(self) -> BaseException | None:
        """Why the newest could not be written, if that is known by now."""
        writing = self._writing
        return writing.exception() if writing and writing.done() else None
