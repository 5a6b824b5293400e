"""Killable worker processes: results in the order of the jobs, whatever happens to a worker.

A decoder that crashes or hangs takes its process with it, never the conversion: the worker is
replaced and its job tried once more with nothing else running. A second loss ends the run with the
job's name: a file is rejected only for what it is, never for what happened around it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from sce_video.errors import SceVideoError, first_line

Job = TypeVar("Job")
Result = TypeVar("Result")

_LAST_STEPS = 60.0
"""Seconds that a process which closed its pipe has to end (it may be writing a core file)."""
_LOOK_AHEAD = 4  # jobs a worker may be ahead of the oldest unfinished one; bounds the memory


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    number: int = -1  # number of the job it works on; -1 = idle
    since: float = 0.0


@dataclass(eq=False)
class Pool(Generic[Job, Result]):
    """A fixed number of spawned workers that run ``function(job)``; use as a context manager."""

    function: Callable[[Job], Result]
    """Picklable; runs in the workers. Its exceptions end the conversion."""
    _: KW_ONLY
    workers: int  # how many processes
    wall_limit: float  # seconds after which a silent worker counts as hanging
    name: Callable[[Job], str] = str  # job -> what to call it in an error
    on_death: Callable[[Job, int], Result | None] = lambda job, code: None
    """Job, exit code -> the result of a job whose death has a known meaning, else None."""
    _workers: list[_Worker] = field(default_factory=list, init=False)

    def map(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Yield the result of each job, in order.

        Raises:
            SceVideoError: a job lost its worker twice, or raised.
        """
        self._jobs, self._waiting = jobs, deque(range(len(jobs)))
        self._done: dict[int, Result] = {}
        self._lost: deque[int] = deque()  # to be tried alone
        self._retried: set[int] = set()
        for number in range(len(jobs)):
            while number not in self._done:
                self._feed(number)
                self._collect()
            self._collect(block=False)
            self._feed(number + 1)  # the workers go on while the caller writes
            yield self._done.pop(number)

    def _feed(self, oldest: int) -> None:
        """Give idle workers their next jobs."""
        while len(self._workers) < min(self.workers, len(self._jobs)):
            self._workers.append(self._start())
        idle = [worker for worker in self._workers if worker.number < 0]
        if self._lost:
            if len(idle) == len(self._workers):  # alone: memory and disk are all its own
                self._send(idle[0], self._lost.popleft())
            return
        if any(worker.number in self._retried for worker in self._workers):
            return
        for worker in idle:
            if self._is_due(oldest):
                self._send(worker, self._waiting.popleft())

    def _is_due(self, oldest: int) -> bool:
        """Whether there is a next job, not too far ahead of the ``oldest`` unfinished one."""
        return bool(self._waiting) and self._waiting[0] < oldest + _LOOK_AHEAD * self.workers

    def _send(self, worker: _Worker, number: int) -> None:
        worker.number, worker.since = number, time.monotonic()
        # A worker that died while idle is found by its closed pipe in _collect.
        with contextlib.suppress(BrokenPipeError):
            worker.pipe.send(self._jobs[number])

    def _collect(self, *, block: bool = True) -> None:
        """Take answers; with ``block`` wait for one, a death or the wall limit of a worker."""
        busy = [worker for worker in self._workers if worker.number >= 0]
        if not busy:
            return
        oldest = min(worker.since for worker in busy)
        patience = max(0.0, oldest + self.wall_limit - time.monotonic())
        ready = wait([worker.pipe for worker in busy], timeout=patience if block else 0.0)
        for worker in busy:
            if worker.pipe in ready:
                self._receive(worker)
            elif time.monotonic() - worker.since > self.wall_limit:
                self._lose(worker, f"gave no answer within {self.wall_limit:.0f} s")

    def _receive(self, worker: _Worker) -> None:
        try:
            ok, answer = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join(_LAST_STEPS)
            code = worker.process.exitcode or 0
            meaning = self.on_death(self._jobs[worker.number], code)
            if meaning is None:
                self._lose(worker, f"ended its process ({_explain(code)})")
            else:
                self._done[worker.number] = meaning
                self._replace(worker)
            return
        if not ok:
            raise SceVideoError(f"{self.name(self._jobs[worker.number])}: {answer}")
        self._done[worker.number] = answer
        worker.number = -1

    def _lose(self, worker: _Worker, what: str) -> None:
        number = worker.number
        if number in self._retried:
            raise SceVideoError(
                f"{self.name(self._jobs[number])}: decoding {what}, twice; "
                "finished shards are kept. Report the file, move it away and run again"
            )
        self._retried.add(number)
        self._lost.append(number)
        self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        _kill(worker)
        self._workers[self._workers.index(worker)] = self._start()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=_serve, args=(there, self.function), daemon=True, name="sce-video-shard"
        )
        # Blocked, not ignored: a Ctrl-C reaches the parent late, and no worker in its first steps.
        resource_tracker.ensure_running()  # to start it in between would unblock both
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        there.close()
        return _Worker(process, here)

    def __enter__(self) -> Pool[Job, Result]:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            _kill(worker)
        self._workers.clear()


def _kill(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _explain(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """Body of a worker: answer jobs until the parent closes the pipe."""
    # Both go to the whole process group; what becomes of the workers is the parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone: nothing left to do
        while True:
            job = pipe.recv()
            try:
                answer = (True, function(job))
            except SceVideoError as error:
                answer = (False, str(error))
            except MemoryError:
                answer = (False, "the memory is used up; give fewer --workers")
            except OSError as error:  # of the file that the parent names
                answer = (False, error.strerror or first_line(error))
            except Exception as error:  # noqa: BLE001 (told to the parent, which ends the run)
                answer = (False, f"{type(error).__name__}: {first_line(error)}")
            pipe.send(answer)
