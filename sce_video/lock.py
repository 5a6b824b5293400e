"""One writer a folder: a lock file that names its holder, on any file system.

Whether a holder on this machine lives is asked of the machine. One elsewhere has to show it: it
touches its lock every :data:`BEAT` seconds, and without that for :data:`STALE` seconds it has gone.
The clock of the file system counts, so those of two machines need not agree.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sce_video.documents import DocumentError, read_json
from sce_video.errors import SceVideoError, UsageError, complain
from sce_video.files import PARTIAL, named, write_whole
from sce_video.processes import STARTED, lives, read, stat

LOCK_NAME = "lock"
BEAT = 20.0  # seconds between signs of life
STALE = 120.0  # seconds without one after which a holder on another machine has gone
_LOOK = 1.0  # seconds between looks at the lock of another machine
_LARGEST = 1 << 20  # bytes of a lock


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    host: str
    system: str  # boot and process namespace: where process ids mean the same
    pid: int
    started: int  # clock ticks since boot; 0 = not known
    since: str  # when it took the lock, UTC
    token: str  # no two holders have the same

    @classmethod
    def ourselves(cls) -> Holder:
        """This process."""
        boot = read("sys/kernel/random/boot_id").strip()
        with suppress(OSError):  # no Linux
            boot += str(Path("/proc/self/ns/pid").readlink())
        pid, now = os.getpid(), datetime.now(UTC).isoformat(" ", "seconds")
        started = stat(pid, STARTED) or 0
        return cls(socket.gethostname(), boot, pid, started, now, uuid.uuid4().hex)

    @property
    def here(self) -> bool:
        """Whether this machine can tell if it lives."""
        own = Holder.ourselves()
        return bool(own.started) and self.system == own.system

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


_UNKNOWN = Holder("an unknown host", "", 0, 0, "an unknown time", "")
"""Of a lock that is being written, or was damaged."""


def holder(path: Path) -> Holder | None:
    """Who holds the lock at ``path``; None where nobody does who lives."""
    found, age = _look(path), _age(path)
    if found is None or age is None:
        return None
    gone = not lives(found.pid, found.started) if found.here else abs(age) > STALE
    return None if gone else found


class Lock:
    """Context in which this process alone writes; what it guards is as it was before and after.

    A lock whose holder has provably gone is taken over, which is said on standard error. Of a
    holder on another machine that has been silent for a while the next sign of life is awaited.
    """

    def __init__(
        self,
        path: Path,
        beat: Callable[[], object] = lambda: None,
        guarded: Path | None = None,
    ) -> None:
        """Prepare a lock.

        Args:
            path: of the lock file; its folder is made on entering.
            beat: called every :data:`BEAT` seconds while the lock is held, by a thread.
            guarded: what nobody else may write; None = the lock's folder.
        """
        self.path, self._beat, self._guarded = path, beat, guarded or path.parent
        self._own = Holder.ourselves()
        self._text = json.dumps(asdict(self._own)).encode()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self.lost: SceVideoError | None = None
        """Why this process must not write any more, if another one took the lock from it."""

    def __enter__(self) -> Lock:
        """Take the lock.

        Raises:
            UsageError: somebody else holds it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while not self._create():
            self._wait_until_free()
            self._take_over()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        if self.lost is None and _look(self.path) == self._own:
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        try:
            file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return _look(self.path) == self._own
        try:
            with named(self.path):
                os.write(file, self._text)
        except OSError:
            self.path.unlink()
            raise
        finally:
            os.close(file)
        return True

    def _wait_until_free(self) -> None:
        """Return once the holder has gone; it has to show that it lives to be refused for.

        Raises:
            UsageError: it lives.
        """
        before: float | None = None
        while (found := holder(self.path)) is not None:
            age = _age(self.path) or 0.0
            if found.here or (before is not None and age < before):
                raise UsageError(
                    f"{self._guarded}: is being written by {found}; wait for it, or stop it"
                )
            if found == _UNKNOWN and abs(age) < _LOOK:  # being written this moment
                time.sleep(_LOOK / 10)
                continue
            if before is None:
                complain(
                    f"{self.path}: waiting for a sign of life of {found}; without one it counts as "
                    f"gone in {STALE - age:.0f} s"
                )
            before = age
            time.sleep(_LOOK)

    def _take_over(self) -> None:
        """Replace the lock of a holder that has gone; of several that try one succeeds."""
        guard = self.path.with_name(f"{self.path.name}.taken{PARTIAL}")
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            if abs(_age(guard) or 0.0) > STALE:  # whoever had it has gone, too
                guard.unlink(missing_ok=True)
            time.sleep(_LOOK / 10)
            return
        try:
            gone = _look(self.path)
            if gone is not None and holder(self.path) is None:
                complain(f"{self.path}: {gone}, has gone; going on")
                write_whole(self.path, self._text, shared=True)
        finally:
            guard.unlink(missing_ok=True)

    def _live(self) -> None:
        """Show that we live, until the lock is given back or is another's."""
        # Signals are the main thread's, which may have blocked them for a moment.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._done.wait(BEAT):
            with suppress(OSError):  # of a moment: a server that does not answer, a full disk
                if _look(self.path) is None:
                    self._create()
                found = _look(self.path)
                if found not in (self._own, _UNKNOWN, None):
                    self.lost = SceVideoError(f"{self.path}: was taken by {found}; ending")
                    return
                os.utime(self.path)
                self._beat()


def _look(path: Path) -> Holder | None:
    """Who wrote the lock; None where there is none.

    Raises:
        OSError: it is no file, or cannot be read.
    """
    try:
        found = read_json(path, dict, limit=_LARGEST)
    except FileNotFoundError:
        return None
    except DocumentError:
        return _UNKNOWN
    kinds = {name: type(value) for name, value in asdict(_UNKNOWN).items()}
    same = {name: type(value) for name, value in found.items()} == kinds
    return Holder(**found) if same else _UNKNOWN


def _age(path: Path) -> float | None:
    """Seconds since a file was touched, by the clock of its file system; None where it is not."""
    probe, now = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}"), time.time()
    with suppress(OSError):  # a folder that only others may write in: then our own clock counts
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    try:
        return now - path.stat().st_mtime
    except FileNotFoundError:
        return None
