"""Workers that hang, crash or cannot send: the run hears of it, and nothing of them stays."""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from sce_video.errors import Interrupted, SceVideoError
from sce_video.stream import loader, watch, worker_errors
from sce_video.stream.loader import ClipBatch, load
from sce_video.stream.watch import sample_limit
from tests.unit.stream.test_workers import alive


def batch() -> ClipBatch:
    return ClipBatch([torch.zeros(1)], np.zeros(1, np.int64), np.zeros(1, np.int64), torch.zeros(1))


class Odd(IterableDataset[ClipBatch]):
    """A good batch, and then what ``how`` says."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __iter__(self) -> Iterator[ClipBatch]:
        yield batch()
        watch.LAST = 0.5
        with sample_limit("t.tar/odd"):
            if self.how == "hang":
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
                faulthandler.cancel_dump_traceback_later()
                time.sleep(10**6)
            elif self.how == "native":  # holds the interpreter and hears no signal
                re.match(r"(a+)+$", "a" * 64 + "b")
            elif self.how == "crash":
                faulthandler.disable()
                os.kill(os.getpid(), signal.SIGSEGV)
            elif self.how == "error":
                list([[]] * 1).index(7)  # type: ignore[arg-type]
        if self.how == "unsent":
            made = batch()
            made.names = [lambda: None]  # type: ignore[list-item]
            yield made
        yield batch()


@pytest.mark.parametrize(
    ("how", "said"),
    {
        "native": r"^t.tar/odd: took longer than 0\.5 s, and its decoder could not be interrupted",
        "crash": r"crashed \(SIGSEGV\) at t.tar/odd: a fault of a decoder",
        "error": r"met ValueError: \[?.*not in list \(.*test_hangs.py:\d+\)",
        "unsent": r"could not send them: .*pickle",
    }.items(),
)
def test_what_ended_a_worker_is_one_line(
    how: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_errors, "LAST", 0.5)
    batches = load(Odd(how), None, workers=1)
    worker = batches._workers[0].pid
    assert worker is not None
    with pytest.raises(SceVideoError, match=said) as caught:
        list(batches)  # the first may be lost with who sends it
    assert "\n" not in str(caught.value)
    batches.close()
    assert not alive({worker})


def test_waiting_for_a_hung_worker_can_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """And taken up again; at the end the worker is gone, though it hears nothing."""
    monkeypatch.setattr(loader, "_LOOK", 0.1)
    monkeypatch.setattr(loader, "_GRACE", 0.1)
    asked, begun = list[bool](), list[bool]()

    def stopped() -> bool:
        asked.extend(begun)
        return bool(begun) and len(asked) % 3 == 0

    batches = load(Odd("hang"), None, workers=2, stopped=stopped)
    workers = {worker.pid or 0 for worker in batches._workers}
    next(batches)
    next(batches)
    begun.append(True)
    for times in (3, 6):
        with pytest.raises(Interrupted):
            next(batches)
        assert len(asked) == times
    assert len(alive(workers)) == 2
    batches.close()
    batches.close()
    assert not alive(workers)
    assert batches.close not in loader._open


def test_workers_end_with_their_batches() -> None:
    batches = load(Odd("hang"), None, workers=1)
    workers = {worker.pid or 0 for worker in batches._workers}
    assert alive(workers)
    del batches
    assert not alive(workers)
