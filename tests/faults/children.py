"""Inputs in forked children: each death and each hang is blamed on its input.

A child takes a batch of one target's inputs, and says before and after each one where it is. Where
it dies or hangs, the next child goes on behind that input.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

from tests.faults.attempt import MEMORY, Case, Limits, attempt, confine
from tests.faults.guard import Guard
from tests.faults.verdict import Verdict, failed

_BATCH = 50
_TICK = 0.5  # seconds between looks for children that died or hang


@dataclass(frozen=True)
class Result:
    """What became of an input."""

    case: Case
    number: int
    place: str
    verdict: Verdict
    seconds: float = 0.0  # of CPU


@dataclass
class _Child:
    """A forked process, as its parent knows it."""

    case: Case
    left: deque[int]  # numbers, the one at work first
    pid: int
    said: Connection[Any, Any]
    since: float = field(default_factory=time.monotonic)  # it said something
    moved: float = field(default_factory=time.monotonic)  # it used the CPU
    cpu: float = 0.0  # seconds, as it was looked at last
    begun: float = 0.0  # the same, when it said something
    at_work: bool = False
    hangs: str = ""  # how
    status: int = 0  # exit code; of a signal, its number below zero


def run(
    todo: Iterable[tuple[Case, Sequence[int]]], work: Path, limits: Limits, processes: int
) -> Iterator[Result]:
    """Read inputs, so many at a time.

    Args:
        todo: targets and the numbers of their inputs.
        work: a folder for what is made.
        limits: of each input.
        processes: children at a time.

    Yields:
        The result of each input, as they end.
    """
    waiting = deque(
        (case, deque(numbers[at : at + _BATCH]))
        for case, numbers in todo
        for at in range(0, len(numbers), _BATCH)
    )
    gc.collect()
    gc.freeze()  # what is there is not looked at after each input
    alive: list[_Child] = []
    try:
        while waiting or alive:
            while waiting and len(alive) < processes:
                alive.append(_start(*waiting.popleft(), work, limits))
            wait([child.said for child in alive], _TICK)
            for child in [*alive]:
                yield from _hear(child)
                if not _ended(child, limits):
                    continue
                yield from _hear(child)  # what it said last
                alive.remove(child)
                child.said.close()
                shutil.rmtree(_folder(work, child.pid), ignore_errors=True)
                if child.at_work:
                    yield _blamed(child)
                if child.left:
                    waiting.appendleft((child.case, child.left))
    finally:
        gc.unfreeze()
        for child in alive:
            _end(child)


def _start(case: Case, numbers: deque[int], work: Path, limits: Limits) -> _Child:
    said, sender = Pipe(duplex=False)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        said.close()
        _child(case, numbers, work, limits, sender)
    sender.close()
    return _Child(case, numbers, pid, said)


def _child(
    case: Case, numbers: Iterable[int], work: Path, limits: Limits, sender: Connection[Any, Any]
) -> NoReturn:
    try:
        os.setsid()  # so that what it starts ends with it
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
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


def _folder(work: Path, pid: int) -> Path:
    """Where a child makes its inputs."""
    return work / f"child-{pid}"


def _hear(child: _Child) -> Iterator[Result]:
    """What a child has said so far.

    Raises:
        RuntimeError: the harness itself is wrong.
    """
    with contextlib.suppress(EOFError, ConnectionError):
        while child.said.poll():
            word, *rest = child.said.recv()
            child.since, child.begun = time.monotonic(), child.cpu
            child.at_work = word == "begin"
            if word == "broken":
                name, number = child.case.target.name, child.left[0]
                raise RuntimeError(f"{name} {number}: the harness fails\n{rest[0]}")
            if word == "end":
                yield Result(child.case, child.left.popleft(), *rest)


def _ended(child: _Child, limits: Limits) -> bool:
    """Whether a child has ended; one that hangs is ended."""
    pid, status = os.waitpid(child.pid, os.WNOHANG)
    if pid:
        child.status = os.waitstatus_to_exitcode(status)
        _end_group(child)
        return True
    now, cpu = time.monotonic(), _cpu(child.pid)
    if cpu > child.cpu:
        child.cpu, child.moved = cpu, now
    idle = now - max(child.moved, child.since) > limits.idle
    if idle or cpu - child.begun > 2 * limits.cpu or now - child.since > limits.wall:
        child.hangs = "waits for ever" if idle else "does not end"
        _end(child)
        return True
    return False


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _end(child: _Child) -> None:
    _end_group(child)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child.pid, 0)


def _end_group(child: _Child) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _blamed(child: _Child) -> Result:
    """The result of the input that a child died of."""
    number = child.left.popleft()
    if child.hangs:
        verdict = failed(child.hangs)
    elif child.status < 0:
        verdict = failed(f"killed by {signal.Signals(-child.status).name}")
    else:
        verdict = failed(f"ends the process with {child.status}")
    places = sorted(child.case.target.places)
    return Result(child.case, number, places[number % len(places)], verdict)
