"""Workers that hang, crash or cannot send: the run hears of it, and nothing of them stays."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from sce_video.errors import Interrupted, SceVideoError
from sce_video.stream import batches as waiting
from sce_video.stream import loader, worker_errors
from sce_video.stream.batches import Batches
from sce_video.stream.loader import ClipBatch, load, never
from sce_video.stream.watch import Desk, sample_limit
from sce_video.stream.worker_errors import UNSENT
from tests.unit.stream.test_workers import alive


def batch() -> ClipBatch:
    return ClipBatch([torch.zeros(1)], np.zeros(1, np.int64), np.zeros(1, np.int64), torch.zeros(1))


BATCH = batch()


class Odd(IterableDataset[ClipBatch]):
    """A good batch, and then what ``how`` says."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __iter__(self) -> Iterator[ClipBatch]:
        yield batch()
        with sample_limit("t.tar/odd"):
            if self.how == "hang":
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
                time.sleep(10**6)
            elif self.how == "native":
                ctypes.PyDLL(None).sleep(10**6)  # holds the interpreter
            elif self.how == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif self.how == "crash":
                faulthandler.disable()
                os.kill(os.getpid(), signal.SIGSEGV)
            elif self.how == "exit":
                sys.exit(3)
            elif self.how == "error":
                list([[]] * 1).index(7)  # type: ignore[arg-type]
        if self.how == "unsent":
            made = batch()
            made.names = [lambda: None]  # type: ignore[list-item]
            yield made
        yield batch()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short looks, and no time for workers that hang."""
    monkeypatch.setattr(waiting, "LOOK", 0.05)
    monkeypatch.setattr(loader, "LOOK", 0.05)
    monkeypatch.setattr(waiting, "_GRACE", 0.1)


@pytest.fixture
def last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of four looks."""
    monkeypatch.setattr(waiting, "LAST", 0.2)
    monkeypatch.setattr(worker_errors, "LAST", 0.2)


def check_end(how: str, said: str) -> None:
    made = load(Odd(how), None, workers=1)
    worker = made._workers[0].pid
    assert worker is not None
    with pytest.raises(SceVideoError, match=said) as caught:
        list(made)  # the first may be lost with who sends it
    assert "\n" not in str(caught.value)
    made.close()
    assert not alive({worker})


@pytest.mark.parametrize(
    ("how", "said"),
    {
        "crash": r"crashed \(SIGSEGV\) at t.tar/odd: a fault of a decoder",
        "exit": r"ended by itself with code 3 at t.tar/odd",
        "error": r"met ValueError: \[?.*not in list \(.*test_batches.py:\d+\)",
        "unsent": r"could not send them: .*pickle",
    }.items(),
)
def test_what_ended_a_worker_is_one_line(how: str, said: str) -> None:
    check_end(how, said)


@pytest.mark.usefixtures("impatient", "last")
@pytest.mark.parametrize("how", ["hang", "native", "stop"])
def test_a_worker_that_never_comes_back_is_ended(how: str) -> None:
    said = r"^t.tar/odd: took longer than 0\.2 s, and its decoder could not be interrupted; take"
    check_end(how, said)


class Worker:
    """A process that hears of its end."""

    def __init__(self) -> None:
        self.killed = False

    def kill(self) -> None:
        self.killed = True

    def join(self, seconds: float) -> None:
        """It has ended."""


class Slow(Iterator[ClipBatch]):
    """DataLoader's iterator: no batch at any look but the last; between looks ``work`` goes on."""

    def __init__(self, looks: int, work: Callable[[int], None]) -> None:
        self._workers, self._shutdown = [Worker()], True
        self.looks, self.work, self.seen = looks, work, 0

    def __next__(self) -> ClipBatch:
        self.seen += 1
        self.work(self.seen)
        if self.seen % self.looks:
            raise RuntimeError("DataLoader timed out after 1 seconds")
        return BATCH

    def _shutdown_workers(self) -> None:
        """There are none."""


@pytest.mark.usefixtures("last", "impatient")
@pytest.mark.parametrize(
    ("text", "begins", "killed"),
    [
        ("t.tar/odd", {1}, 5),  # seen once, and then for four looks
        ("t.tar/odd", {3}, 7),
        ("t.tar/odd", {1, 4, 7}, None),  # the same sample again is another one
        (f"{UNSENT}no pickle", {1}, None),
        ("", {1}, None),
    ],
)
def test_only_a_sample_that_was_waited_for_ends_its_worker(
    text: str, begins: set[int], killed: int | None
) -> None:
    desk = Desk(1)
    made = Slow(10, lambda look: desk.note(0, text) if look in begins else None)
    found = Batches(made, desk, never)
    if killed is None:
        assert next(found) is BATCH
    else:
        with pytest.raises(SceVideoError, match=r"^t\.tar/odd: took longer than"):
            next(found)
        assert made.seen == killed
    assert made._workers[0].killed == (killed is not None)
    found.close()


@pytest.mark.usefixtures("last", "impatient")
def test_a_pause_of_the_trainer_ends_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long ago a sample began, and over several batches, its looks alone count."""
    desk = Desk(1)
    with monkeypatch.context() as then:
        then.setattr(time, "monotonic", lambda: -1e9)
        desk.note(0, "t.tar/slow")
    made = Slow(2, lambda look: None)
    found = Batches(made, desk, never)
    for _ in range(2):
        assert next(found) is BATCH
    assert not made._workers[0].killed
    found.close()


@pytest.mark.usefixtures("impatient")
def test_waiting_for_a_hung_worker_can_be_given_up() -> None:
    """And taken up again; at the end the worker is gone, though it hears nothing."""
    asked, begun = list[bool](), list[bool]()

    def stopped() -> bool:
        asked.extend(begun)
        return bool(begun) and len(asked) % 3 == 0

    made = load(Odd("hang"), None, workers=2, stopped=stopped)
    workers = {worker.pid or 0 for worker in made._workers}
    next(made)
    next(made)
    begun.append(True)
    for times in (3, 6):
        with pytest.raises(Interrupted):
            next(made)
        assert len(asked) == times
    assert len(alive(workers)) == 2
    made.close()
    made.close()
    assert not alive(workers)
    assert made.close not in waiting._open


@pytest.mark.usefixtures("impatient")
def test_workers_end_with_their_batches() -> None:
    made = load(Odd("hang"), None, workers=1)
    workers = {worker.pid or 0 for worker in made._workers}
    assert alive(workers)
    del made
    assert not alive(workers)
