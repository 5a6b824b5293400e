"""Workers that hang, crash or cannot send: the run hears of it, and nothing of them stays."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import cast

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from sce_video.errors import Interrupted, SceVideoError
from sce_video.stream import batches as waiting
from sce_video.stream import loader, worker_errors
from sce_video.stream.batches import HangWatch
from sce_video.stream.loader import ClipBatch, load
from sce_video.stream.watch import Desk, sample_limit
from sce_video.stream.worker_errors import UNSENT
from tests.unit.stream.test_workers import alive


def batch() -> ClipBatch:
    return ClipBatch([torch.zeros(1)], np.zeros(1, np.int64), np.zeros(1, np.int64), torch.zeros(1))


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

    killed = False

    def kill(self) -> None:
        self.killed = True


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
    monkeypatch: pytest.MonkeyPatch, text: str, begins: set[int], killed: int | None
) -> None:
    """However long ago it began: looks alone count, and the trainer may have been stopped."""
    now = iter(range(-(10**9), 0, 10**8))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    desk, worker = Desk(1), Worker()
    watch = HangWatch(desk, [cast("BaseProcess", worker)])
    ended = None
    for look in range(1, 10):
        if look in begins:
            desk.note(0, text)
        watch.look()
        if ended is None and worker.killed:
            ended = look
    assert ended == killed
    assert (watch.hung and watch.hung.text) == (text if killed else None)


@pytest.mark.usefixtures("impatient")
def test_a_pause_of_the_trainer_ends_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only while a batch is waited for does anybody look."""
    made = load(Odd("hang"), None, workers=1)
    next(made)
    monkeypatch.setattr(waiting, "LAST", 0.2)
    monkeypatch.setattr(worker_errors, "LAST", 0.2)
    while not made._desk.place(0).text:
        time.sleep(0.01)
    time.sleep(0.5)  # more than the limit
    assert made._watch.hung is None
    with pytest.raises(SceVideoError, match=r"^t\.tar/odd: took longer"):
        next(made)
    made.close()


@pytest.mark.usefixtures("impatient", "last")
def test_a_batch_that_a_stopped_worker_made_is_not_waited_for_without_end() -> None:
    """It lies in memory that only its worker can hand over."""
    made = load(Odd("stop"), None, workers=1)
    while not made._desk.place(0).text:
        time.sleep(0.01)
    with pytest.raises(SceVideoError, match=r"^t\.tar/odd: took longer"):
        list(made)
    made.close()


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
