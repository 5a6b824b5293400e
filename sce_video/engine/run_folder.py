"""A run's folder: whose it is, and what is written there beside metrics and checkpoints."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from sce_video.config.load import dump_config
from sce_video.config.tasks import Config
from sce_video.engine.status import STATUS_NAME, StatusFile, saved_steps, way_on
from sce_video.engine.track import METRICS_NAME
from sce_video.errors import Interrupted, SceVideoError, UsageError
from sce_video.files import FULL, named, write_whole
from sce_video.lock import LOCK_NAME, Lock
from sce_video.terminal import drop_unwritten
from sce_video.text import printable

if TYPE_CHECKING:
    from sce_video.engine.runtime import Runtime

log = logging.getLogger("sce_video")

_PLAIN = "%(levelname)s: %(message)s"
_OTHER = "start another with run.dir=..."


class RunFolder:
    """The names in ``runs/NAME``. Nothing here needs torch; the main rank alone writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.settings = path / "deepspeed.json"
        self.log = path / "run.log"
        self.checkpoints = path / "checkpoints"
        self.picture = path / "samples" / "views.png"
        self.status = StatusFile(path)
        self._lock: Lock | None = None

    @property
    def saved(self) -> bool:
        """Whether there is a checkpoint, or what was one."""
        return bool(saved_steps(self.checkpoints))

    @property
    def lost(self) -> SceVideoError | None:
        """Why nothing may be written here any more, if another process took the folder over."""
        return self._lock.lost if self._lock else None

    def check(self, resume: Literal["auto"] | bool) -> None:
        """Refuse to write into another run or what is no run, or to resume nothing.

        Args:
            resume: ``run.resume``.

        Raises:
            UsageError: what would have to be given instead is said.
        """
        folder = f"and run.dir={self.path} a folder; {_OTHER}"
        if self.path.is_symlink() and not self.path.exists():
            raise UsageError(f"{self.path}: is a link to nothing, {folder}")
        there = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not there.is_dir():
            raise UsageError(f"{there}: is a file, {folder}")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"{there}: cannot be written in; {_OTHER}")
        names = {path.name for path in self.path.iterdir()} if there == self.path else set()
        if (self.path / LOCK_NAME).is_dir():
            raise UsageError(f"{self.path / LOCK_NAME}: is a folder; {_OTHER}")
        for path in (self.log, self.path / METRICS_NAME):
            if os.path.lexists(path) and not _may_be_written(path):
                raise UsageError(f"{path}: is a link or no file; remove it, or {_OTHER}")
        marks = {p.name for p in (self.config, self.log, self.checkpoints)} | {STATUS_NAME}
        if names - {LOCK_NAME} and not names & marks:
            raise UsageError(f"{self.path}: not empty, and no run's folder; {_OTHER}")
        if resume is True and not self.saved:
            raise UsageError(
                f"{self.path}: no checkpoint to resume from; run.resume=auto starts where there "
                "is none"
            )
        if resume is False and names & marks:
            what = "a run" if self.saved else "a run that was stopped before its first checkpoint"
            does = "goes on with it" if self.saved else "starts it again"
            raise UsageError(f"{self.path}: holds {what}; run.resume=auto {does}, or {_OTHER}")

    @contextmanager
    def held(self, resume: Literal["auto"] | bool, *, claimed: bool = False) -> Iterator[None]:
        """Context in which this process alone writes here; how it fails is written down.

        Args:
            resume: as for :meth:`check`.
            claimed: the folder is the caller's own, and not checked.

        Raises:
            UsageError: somebody else writes here, or as :meth:`check`.
            SceVideoError: what was to be written here found no room.
        """
        made = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            with Lock(self.path / LOCK_NAME, self.status.beat) as self._lock:
                if not claimed:
                    self.check(resume)
                try:
                    yield
                except Exception as error:
                    if self.saved and not self.status.told and not isinstance(error, Interrupted):
                        self._note(error)
                    if isinstance(error, OSError) and error.errno in FULL:
                        raise SceVideoError(
                            f"{error.filename}: {FULL[error.errno]}; make room, and "
                            f"{way_on(self.checkpoints)}"
                        ) from error
                    raise
        finally:
            with suppress(OSError):  # something is in it
                for path in made:
                    path.rmdir()

    def _note(self, error: Exception) -> None:
        """Write down why a run that is there did not go on."""
        with suppress(OSError):  # what is raised says more
            self.status.refuse(str(error))
            record = logging.makeLogRecord({"levelname": "ERROR", "msg": f"refused: {error}"})
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(f"{_Line(f'%(asctime)s {_PLAIN}').format(record)}\n")

    def log_to(self, runtime: Runtime) -> None:
        """Log to ``run.log`` from every rank, to standard error from the main one."""
        self.path.mkdir(parents=True, exist_ok=True)
        log.setLevel(logging.INFO)
        log.propagate = False
        rank = f" rank {runtime.rank}" if runtime.ranks > 1 else ""
        plain = _PLAIN.replace("%(levelname)s", f"%(levelname)s{rank}")
        file = _LogFile(self.log, delay=True, encoding="utf-8")
        file.setFormatter(_Line(f"%(asctime)s {plain}"))
        log.addHandler(file)
        if runtime.main:
            shown = _Shown()
            shown.addFilter(lambda record: not getattr(record, "file_only", False))
            shown.setFormatter(_Line(plain))
            log.addHandler(shown)
            log.info("environment: %s", runtime.environment(), extra={"file_only": True})

    def begin(self, config: Config, deepspeed: dict[str, Any]) -> None:
        """Write ``config.yaml`` and ``deepspeed.json``."""
        write_whole(self.config, dump_config(config).encode())
        write_whole(self.settings, json.dumps(deepspeed, indent=1).encode())


class _Line(logging.Formatter):
    """One line a record, whatever names are in it; several where it has ``lines``: the plan."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, without what a terminal acts upon."""
        text = super().format(record)
        lines = text.split("\n") if getattr(record, "lines", False) else [text]
        return "\n".join(map(printable, lines))


class _Shown(logging.StreamHandler[TextIO]):
    """Standard error; what nobody can read there is lost, without logging's word about it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Lose it, where the stream cannot be written."""
        if isinstance(sys.exception(), OSError):
            drop_unwritten()
        else:
            super().handleError(record)


def _may_be_written(path: Path) -> bool:
    """Whether what is written to as it is may be: no pipe, which waits, nor a file elsewhere."""
    return path.is_char_device() or (path.is_file() and not path.is_symlink())


class _LogFile(logging.FileHandler):
    """A log that ends the run where it cannot be written: what it would have said is lost."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record.

        Raises:
            OSError: it cannot be written; the file is named.
        """
        with named(Path(self.baseFilename)):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Raise what :meth:`emit` has just caught."""
        raise  # noqa: PLE0704
