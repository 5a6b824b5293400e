"""Checkpoints of a run: taken at a step, written by a thread of the main rank while it goes on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sce_video.engine import checkpoint
from sce_video.engine.zero_layout import Segment
from sce_video.errors import SceVideoError


class Saver:
    """One checkpoint at a time; :meth:`take` and :meth:`commit` are collective calls."""

    def __init__(
        self,
        engine: Any,
        segments: list[Segment],
        folder: Path,
        *,
        keep: int,
        milestones: int,
    ) -> None:
        """``folder``, ``keep`` and ``milestones`` are :func:`checkpoint.save`'s."""
        self._engine, self._segments, self._folder = engine, segments, folder
        self._keep, self._milestones = keep, milestones
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[Path] | None = None

    def take(self, state: dict[str, Any]) -> None:
        """Copy the state as it is now, and begin to write it.

        Raises:
            SceVideoError: the one before could not be written.
        """
        self.commit()
        model = checkpoint.model_state(self._engine)
        optimizer = checkpoint.optimizer_state(self._engine, self._segments)
        if dist.get_rank() == 0:
            self._writing = self._thread.submit(
                checkpoint.save, self._folder, model, optimizer, state, self._keep, self._milestones
            )

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
