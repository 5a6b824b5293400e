"""How long one sample may take, and which one each worker has in hand.

Two limits. What returns to Python now and then is interrupted in time, and the sample counts as a
bad one. A worker whose native code never comes back is ended from outside Python, and so the run,
with a line that names the sample.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import struct
import threading
import time
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray
from types import FrameType, TracebackType
from typing import IO

from sce_video.text import printable
from sce_video.video.errors import DecodeError

SECONDS = 300.0
"""Wall seconds that decoding and cutting one sample may take; reading and fetching do not count."""
LAST = 2 * SECONDS
"""Seconds after which a worker is ended that could not be interrupted."""
_AGAIN = 1.0  # seconds after which it is interrupted again: some code passes over exceptions
_SLOT = 1024  # bytes that a worker has to say what it does
_HEAD = struct.Struct("dH")  # when, in seconds of the monotonic clock; bytes of text


class _TimeUp(BaseException):
    """Raised in the middle of anything; no ``except Exception`` keeps it."""


@dataclass(frozen=True)
class Place:
    """What a worker did last."""

    text: str  # the sample's name; empty = nothing that is watched
    seconds: float  # since it began


class Desk:
    """What each worker does, in memory that stays when the worker dies."""

    def __init__(self, workers: int) -> None:
        self._memory = RawArray("B", workers * _SLOT)

    def note(self, worker: int, text: str) -> None:
        """Say what a worker does."""
        told = printable(text).encode("utf-8", "replace")[: _SLOT - _HEAD.size]
        data = _HEAD.pack(time.monotonic(), len(told)) + told
        self._memory[worker * _SLOT : worker * _SLOT + len(data)] = data

    def place(self, worker: int) -> Place:
        """What a worker said last."""
        data = bytes(self._memory[worker * _SLOT : (worker + 1) * _SLOT])
        began, size = _HEAD.unpack_from(data)
        told = data[_HEAD.size : _HEAD.size + size].decode("utf-8", "replace")
        return Place(told, time.monotonic() - began)


_own: tuple[Desk, int, IO[str]] | None = None  # where this worker says what it does


def sit_down(desk: Desk, worker: int) -> None:
    """Let this process be a worker, which says what it does and may be ended."""
    global _own
    _own = desk, worker, open(os.devnull, "w")  # noqa: PTH123, SIM115


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
        self._name = name

    def __enter__(self) -> None:
        note(self._name)
        main = threading.current_thread() is threading.main_thread()
        self._armed = main and not signal.getitimer(signal.ITIMER_REAL)[0]
        if _own:
            faulthandler.dump_traceback_later(LAST, exit=True, file=_own[2])
        if self._armed:
            self._previous = signal.signal(signal.SIGALRM, _interrupt)
            signal.setitimer(signal.ITIMER_REAL, SECONDS, _AGAIN)

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
        if late or error is None or isinstance(error, DecodeError):
            note("")
        if late:
            raise DecodeError(f"took longer than {SECONDS:g} s") from error

    def _disarm(self) -> None:
        if self._armed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._previous)
        if _own:
            faulthandler.cancel_dump_traceback_later()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _TimeUp
