"""Workers that die, hang or raise; results stay in order."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from sce_video.errors import SceVideoError
from sce_video.shard.pool import Pool

Job = tuple[str, str]
"""(what to do, argument)."""


def work(job: Job) -> str:
    """Body of the test workers."""
    verb, argument = job
    if verb == "sleep":
        time.sleep(float(argument))
    elif verb == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif verb == "die once" and not Path(argument).exists():
        Path(argument).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "log then die once":
        mark = Path(argument + ".died")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        started = time.monotonic()
        time.sleep(1.0)  # longer than a worker needs to start
        with Path(argument).open("a") as stream:
            stream.write(f"{started} {time.monotonic()} retried\n")
    elif verb == "hang once" and not Path(argument).exists():
        Path(argument).touch()
        time.sleep(60)
    elif verb == "log":
        started = time.monotonic()
        time.sleep(0.2)
        with Path(argument).open("a") as stream:
            stream.write(f"{started} {time.monotonic()} first\n")
    elif verb == "raise":
        raise SceVideoError(argument)
    elif verb == "fill":
        raise MemoryError
    elif verb == "read":
        Path(argument).read_bytes()
    elif verb == "err":
        raise ZeroDivisionError("a\nb")
    elif verb == "burn":
        resource.setrlimit(resource.RLIMIT_CPU, (1, 10))
        while True:
            pass
    return f"{verb} {argument}"


def pool(workers: int = 2, wall_limit: float = 60.0) -> Pool[Job, str]:
    return Pool(
        work,
        workers=workers,
        wall_limit=wall_limit,
        name=lambda job: job[1],
        on_death=lambda job, code: "too slow" if code == -signal.SIGXCPU else None,
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_order_is_that_of_the_jobs(workers: int) -> None:
    jobs = [("sleep", "0.2" if n % 5 == 0 else "0.0") for n in range(20)]
    with pool(workers) as running:
        assert list(running.map(jobs)) == [f"sleep {argument}" for _, argument in jobs]
        assert list(running.map([])) == []


def test_a_killed_and_a_hanging_worker_are_replaced(tmp_path: Path) -> None:
    jobs = [("go", str(n)) for n in range(12)]
    jobs[3] = ("die once", str(tmp_path / "a"))
    jobs[7] = ("hang once", str(tmp_path / "b"))
    with pool(wall_limit=3.0) as running:
        assert list(running.map(jobs)) == [" ".join(job) for job in jobs]


def test_a_lost_job_is_tried_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = [("log", str(log))] * 2 + [("log then die once", str(log))] + [("log", str(log))] * 3
    with pool(3) as running:
        assert len(list(running.map(jobs))) == 6
    lines = [line.split() for line in log.read_text().splitlines()]
    (start, end), *_ = [(float(a), float(b)) for a, b, try_ in lines if try_ == "retried"]
    others = [(float(a), float(b)) for a, b, try_ in lines if try_ == "first"]
    assert len(others) == 5
    assert all(b <= start or end <= a for a, b in others)


def test_a_job_that_kills_twice_is_named() -> None:
    jobs = [("go", "1"), ("die", "the-culprit.mp4"), ("go", "2")]
    with pool() as running, pytest.raises(SceVideoError, match=r"the-culprit.*SIGSEGV\), twice"):
        list(running.map(jobs))


@pytest.mark.slow
def test_a_job_that_hangs_twice_is_named() -> None:
    with (
        pool(1, wall_limit=1.5) as running,
        pytest.raises(SceVideoError, match=r"60: decoding gave no answer within 2 s, twice"),
    ):
        list(running.map([("sleep", "60")]))


def test_an_exceeded_cpu_limit_is_an_answer_at_once() -> None:
    with pool() as running:
        assert list(running.map([("burn", ""), ("go", "1")])) == ["too slow", "go 1"]


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (("raise", "why"), "why: why"),
        (("fill", "f"), "f: the memory is used up; give fewer --workers"),
        (("read", "/"), "/: Is a directory"),
        (("err", "e"), "e: ZeroDivisionError: a"),
    ],
)
def test_an_exception_ends_the_run_with_one_line(job: Job, told: str) -> None:
    with pool() as running, pytest.raises(SceVideoError) as caught:
        list(running.map([("go", "1"), job]))
    assert str(caught.value) == told


def test_no_process_is_left() -> None:
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pool() as running:
            answers = running.map([("sleep", "30")] * 4)
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            with pytest.raises(KeyboardInterrupt):
                next(answers)
            processes = [worker.process for worker in running._workers]
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(processes) == 2
    assert all(process.exitcode is not None for process in processes)
