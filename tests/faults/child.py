"""A forked process that reads inputs one after the other, and says before and after each."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import shutil
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from tests.faults.attempt import MEMORY, Case, Limits, attempt, confine
from tests.faults.guard import Guard
from tests.faults.verdict import Verdict, failed


@dataclass(frozen=True)
class Result:
    """What became of an input."""

    case: Case
    number: int
    place: str
    verdict: Verdict
    seconds: float = 0.0  # of CPU


class Child:
    """The process, as its parent knows it."""

    def __init__(self, case: Case, numbers: Iterable[int], work: Path, limits: Limits) -> None:
        """Start it; ``work`` is a folder for what it makes."""
        self.case, self.left, self._limits = case, deque(numbers), limits
        self.said, sender = Pipe(duplex=False)
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            self.said.close()
            _work(case, self.left, work, limits, sender)
        sender.close()
        self._folder = _folder(work, self._pid)
        self._at_work, self._hangs, self._status = False, "", 0
        self._since = self._moved = time.monotonic()  # since it said something, used the CPU
        self._cpu = self._begun = 0.0  # seconds of CPU: now, when it said something

    def hear(self) -> Iterator[Result]:
        """What it has said so far."""
        with contextlib.suppress(EOFError, ConnectionError):
            while self.said.poll():
                word, *rest = self.said.recv()
                self._since, self._begun = time.monotonic(), self._cpu
                self._at_work = word == "begin"
                if word == "broken":
                    verdict = failed("the harness itself fails", rest[0])
                    yield Result(self.case, self.left.popleft(), "", verdict)
                if word == "end":
                    yield Result(self.case, self.left.popleft(), *rest)

    def has_ended(self) -> bool:
        """Whether it has; one that hangs is ended."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid:
            self._status = os.waitstatus_to_exitcode(status)
            self._end_others()
            return True
        now, cpu = time.monotonic(), self._used()
        if cpu > self._cpu:
            self._cpu, self._moved = cpu, now
        idle = now - max(self._moved, self._since) > self._limits.idle
        endless = cpu - self._begun > 2 * self._limits.cpu
        if idle or endless or now - self._since > self._limits.wall:
            self._hangs = "waits for ever" if idle else "does not end"
            self.end()
            return True
        return False

    def end(self) -> None:
        """Kill it, and what it started."""
        self._end_others()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def close(self) -> Iterator[Result]:
        """Behind its end: the rest of what it said, and the input that it died of."""
        yield from self.hear()
        self.said.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if not self._at_work:
            return
        number = self.left.popleft()
        if self._hangs:
            verdict = failed(self._hangs)
        elif self._status < 0:
            verdict = failed(f"killed by {signal.Signals(-self._status).name}")
        else:
            verdict = failed(f"ends the process with {self._status}")
        places = sorted(self.case.target.places)
        yield Result(self.case, number, places[number % len(places)], verdict)

    def _used(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _end_others(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)


def _folder(work: Path, pid: int) -> Path:
    """Where a child makes its inputs."""
    return work / f"child-{pid}"


def _work(
    case: Case, numbers: Iterable[int], work: Path, limits: Limits, sender: Connection[Any, Any]
) -> NoReturn:
    """What it does, in its own process."""
    try:
        os.setsid()  # so that what it starts ends with it
        faulthandler.disable()  # a crash is told by the parent
        for name in ("SIGINT", "SIGTERM", "SIGALRM"):
            signal.signal(signal.Signals[name], signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        confine(limits)
        own, guard = _folder(work, os.getpid()), Guard()
        own.mkdir()
        for number in numbers:
            sender.send(("begin",))
            began = time.process_time()
            place, verdict, _ = attempt(case, number, own, guard, limits)
            sender.send(("end", place, verdict, time.process_time() - began))
            if verdict.kind == MEMORY:
                break
        sender.send(("done",))
    except BaseException:  # noqa: BLE001  (of the harness itself)
        sender.send(("broken", traceback.format_exc()))
    finally:
        os._exit(0)
