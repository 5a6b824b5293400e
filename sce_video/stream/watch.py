"""How long one sample may take, and which one each worker has in hand.

Two limits. What returns to Python now and then is interrupted in time, and the sample counts as a
bad one. A worker that never comes back is killed by who waits for it, which reads its desk, and the
run ends with a line that names the sample.
"""

from __future__ import annotations

import signal
import struct
import threading
import time
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray
from types import FrameType, TracebackType

from sce_video.text import printable
from sce_video.video.errors import DecodeError

SECONDS = 300.0
"""Wall seconds that decoding and cutting one sample may take; reading, fetching do not count, nor
time in which the process is stopped."""
LAST = 2 * SECONDS
"""Seconds of waiting after which a worker is killed that could not be interrupted."""
_TICKS = 10  # looks in that time
_AGAIN = 1.0  # seconds after which it is interrupted again: some code passes over exceptions
_SLOT = 1024  # bytes that a worker has to say what it does
_HEAD = struct.Struct("dH")  # when, in seconds of the monotonic clock; bytes of text


class _TimeUp(BaseException):
    """Raised in the middle of anything; no ``except Exception`` keeps it."""


@dataclass(frozen=True)
class Place:
    """What a worker did last."""

    text: str  # the sample's name; empty = nothing that is watched
    began: float  # when, in seconds of the monotonic clock; what tells one from the next


class Desk:
    """What each worker does, in memory that stays when the worker dies."""

    def __init__(self, workers: int) -> None:
        self._memory = RawArray("B", workers * _SLOT)

    def note(self, worker: int, text: str) -> None:
        """Say what a worker does."""
        told = printable(text).encode("utf-8", "replace")[: _SLOT - _HEAD.size]
        data = _HEAD.pack(time.monotonic(), len(told)) + told
        slots = memoryview(self._memory).cast("B")
        slots[worker * _SLOT : worker * _SLOT + len(data)] = data

    def place(self, worker: int) -> Place:
        """What a worker said last."""
        slot = memoryview(self._memory).cast("B")[worker * _SLOT : (worker + 1) * _SLOT]
        data = bytes(slot)
        while data != (again := bytes(slot)):  # it was being written
            data = again
        began, size = _HEAD.unpack_from(data)
        told = data[_HEAD.size : _HEAD.size + size].decode("utf-8", "replace")
        return Place(told, began)


_own: tuple[Desk, int] | None = None  # where this worker says what it does


def sit_down(desk: Desk, worker: int) -> None:
    """Let this process be a worker, which says what it does."""
    global _own
    _own = desk, worker


def note(text: str) -> None:
    """Say what this process does, if it is a worker."""
    if _own:
        _own[0].note(_own[1], text)


class sample_limit:  # noqa: N801  (used as a function)
    """Context in which one sample is decoded and cut, for :data:`SECONDS` at most.

    Only the main thread can be interrupted: of a program that loads without workers in another
    thread there is no limit, nor where it uses the system's timer itself.

    Raises:
        DecodeError: the time is up.
    """

    def __init__(self, name: str) -> None:
        """``name``: of the sample."""
        self._name, self._ticks, self._began = name, 0, time.thread_time()

    def __enter__(self) -> None:
        note(self._name)
        main = threading.current_thread() is threading.main_thread()
        self._armed = main and not signal.getitimer(signal.ITIMER_REAL)[0]
        if self._armed:
            # None: it was set by other code than Python's, and cannot be given back.
            self._previous = signal.signal(signal.SIGALRM, self._look) or signal.SIG_DFL
            signal.setitimer(signal.ITIMER_REAL, SECONDS / _TICKS, SECONDS / _TICKS)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        late = kind is _TimeUp
        try:
            self._disarm()
        except _TimeUp:  # it came at the last moment
            late = True
            self._disarm()
        if late or error is None or isinstance(error, Exception):
            note("")  # it goes on, or tells the error itself
        if late:
            raise DecodeError(f"took longer than {SECONDS:g} s") from error

    def _look(self, number: int, frame: FrameType | None) -> None:
        """Count: the timer goes on while we are stopped, and then rings once.

        While code other than Python's runs it rings once, too: that has its CPU time.
        """
        self._ticks += 1
        ran = max(self._ticks * SECONDS / _TICKS, time.thread_time() - self._began)
        if ran >= SECONDS:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
            raise _TimeUp

    def _disarm(self) -> None:
        if self._armed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._previous)
