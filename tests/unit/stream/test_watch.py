"""A sample that takes too long is a bad one; a worker that never comes back is named."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from sce_video.errors import SceVideoError
from sce_video.shardset.index import ShardIndex
from sce_video.stream import watch
from sce_video.stream.loader import ClipDataset, load
from sce_video.stream.order import Position
from sce_video.stream.reader import ShardReader
from sce_video.stream.watch import Desk, Place, sample_limit
from sce_video.stream.worker_errors import UNSENT, death_of_worker, error_of_worker, hung_worker
from sce_video.video.errors import DecodeError
from sce_video.video.packets import PacketIndex
from tests.unit.stream.conftest import SAMPLER


def swallowing() -> None:
    """A decoder that passes over exceptions, and one that waits."""
    while True:
        try:
            time.sleep(60)
        except Exception:  # noqa: BLE001, S112
            continue


def test_what_takes_too_long_is_a_decode_error(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGALRM)
    monkeypatch.setattr(watch, "SECONDS", 0.05)
    with pytest.raises(DecodeError, match=r"^took longer than 0\.05 s$"), sample_limit("a"):
        swallowing()
    with pytest.raises(ValueError, match="own"), sample_limit("a"):
        raise ValueError("its own")
    with sample_limit("a"):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_handler_that_python_does_not_know_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Code that embeds Python may have set one: ``signal.signal`` then gives none."""
    before, change = signal.getsignal(signal.SIGALRM), signal.signal
    answers: Iterator[None] = iter([None])
    monkeypatch.setattr(signal, "signal", lambda *new: next(answers, change(*new)))
    limit = sample_limit("a")
    with limit:
        assert signal.getsignal(signal.SIGALRM) == limit._look
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    change(signal.SIGALRM, before)


def test_a_process_that_was_stopped_has_done_no_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer rings once for all of that time; and once for long work in native code."""

    def sample(alarms: int, worked: float) -> None:
        times = iter([0.0])
        monkeypatch.setattr(time, "thread_time", lambda: next(times, worked))
        with sample_limit("a"):
            for _ in range(alarms):
                signal.raise_signal(signal.SIGALRM)

    sample(watch._TICKS - 1, watch.SECONDS - 1)
    for alarms, worked in ((watch._TICKS, 0.0), (1, watch.SECONDS)):
        with pytest.raises(DecodeError, match=r"^took longer than 300 s$"):
            sample(alarms, worked)


@pytest.mark.parametrize(
    ("error", "left"),
    [(ValueError, ""), (MemoryError, ""), (DecodeError, ""), (SystemExit, "s/a")],
)
def test_a_sample_is_in_hand_until_it_is_done_or_ends_its_worker(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException], left: str
) -> None:
    desk = Desk(1)
    monkeypatch.setattr(watch, "_own", (desk, 0))
    with pytest.raises(error), sample_limit("s/a"):
        raise error
    assert desk.place(0).text == left
    with sample_limit("s/b"):
        assert desk.place(0).text == "s/b"
    assert desk.place(0).text == ""


def test_a_thread_and_a_used_timer_are_left_alone() -> None:
    found: list[object] = []

    def work() -> None:
        with sample_limit("a"):
            found.append(signal.getitimer(signal.ITIMER_REAL)[0])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0.0]
    signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        with sample_limit("a"):
            assert signal.getitimer(signal.ITIMER_REAL)[0] > watch.SECONDS
        assert signal.getitimer(signal.ITIMER_REAL)[0] > watch.SECONDS
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.mark.parametrize("substitutes", [True, False])
def test_a_slow_sample_is_replaced_or_missing(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch, substitutes: bool
) -> None:
    monkeypatch.setattr(watch, "SECONDS", 0.3)
    reader = ShardReader(index)
    packets = reader.packets

    def slow(row: int) -> PacketIndex | None:
        if row == 1:
            swallowing()
        return packets(row)

    monkeypatch.setattr(reader, "packets", slow)
    chain = np.arange(6) if substitutes else None
    dataset = ClipDataset(reader, SAMPLER, substitutes=chain)
    [batch] = load(dataset, [[Position(0, 0), Position(0, 1)]], workers=0)
    assert batch.rows.tolist() == ([0, 2] if substitutes else [0])
    assert batch.bad == [(reader.name(1), "took longer than 0.3 s")]


def test_a_desk_holds_any_name() -> None:
    desk = Desk(2)
    assert desk.place(1).text == ""
    desk.note(1, "s/" + "é" * 2000)
    desk.note(0, "a\nb\ud800")
    assert desk.place(0).text == r"a\nb\ud800"
    assert desk.place(1).text.startswith("s/éé")
    before = desk.place(0)
    assert desk.place(0) == before
    desk.note(0, "a\nb\ud800")
    assert desk.place(0) != before  # another sample of the same name


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (-signal.SIGKILL, "s/a", "was killed (SIGKILL), by the system if memory ran out: lower"),
        (-signal.SIGSEGV, "s/a", "crashed (SIGSEGV) at s/a: a fault of a decoder; take"),
        (-signal.SIGABRT, "", "crashed (SIGABRT): a fault of a decoder"),
        (-signal.SIGBUS, "s/a", "ended by SIGBUS at s/a: /dev/shm"),
        (1, f"{UNSENT}unable: No space left on device (28)", "could not send them: /dev/shm"),
        (1, f"{UNSENT}no pickle", "could not send them: no pickle"),
        (1, "s/a", "ended by itself with code 1 at s/a"),
    ],
)
def test_the_death_of_a_worker_is_told_as_what_it_is(code: int, text: str, said: str) -> None:
    told = str(death_of_worker(code, Place(text, 0.0)))
    assert said in told
    assert "\n" not in told
    assert ("full; mount it larger" in told) == ("/dev/shm" in said)  # noqa: S108


def test_a_hung_worker_is_told_by_its_sample() -> None:
    assert str(hung_worker(Place("s/a", 0.0))) == (
        "s/a: took longer than 600 s, and its decoder could not be interrupted; "
        "take it out of the set"
    )


@pytest.mark.parametrize(
    ("kind", "last", "said"),
    [
        (RecursionError, "RecursionError: too deep", "met RecursionError: too deep (json/d.py:7)"),
        (RuntimeError, "RuntimeError: x\nsecond line", "met RuntimeError: x (json/d.py:7)"),
        (ValueError, "ValueError", "met ValueError:  (json/d.py:7)"),
        (MemoryError, "MemoryError", "has no memory left: lower data.workers"),
        (SceVideoError, "sce_video.errors.SceVideoError: f: gone", "f: gone"),
    ],
)
def test_an_error_of_a_worker_is_told_as_what_it_is(
    kind: type[Exception], last: str, said: str
) -> None:
    trace = 'Traceback (most recent call last):\n  File "/l/json/d.py", line 7, in f\n    x\n'
    text = f"Caught {kind.__name__} in DataLoader worker process 0.\nOriginal {trace}{last}\n"
    told = error_of_worker(kind(text))
    assert told is not None
    assert str(told).removesuffix("; -v shows all").endswith(said) or said in str(told)
    assert "\n" not in str(told)
    assert error_of_worker(kind("of this process")) is None
