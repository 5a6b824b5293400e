"""One writer a folder: who is refused, who takes over, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sce_video import lock
from sce_video.errors import UsageError
from sce_video.lock import LOCK_NAME, STALE, Holder, Lock, holder
from tests.conftest import REPOSITORY

HOLD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sce_video.lock import Lock
with Lock(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / LOCK_NAME


def another(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(REPOSITORY), str(path)]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert job.stdout
    assert job.stdout.readline() == "held\n"
    return job


def names(folder: Path) -> list[str]:
    """Of all that is there."""
    return [entry.name for entry in folder.iterdir()]


def write(path: Path, found: Holder, age: float = 0.0) -> None:
    """The lock of ``found``, touched so many seconds ago."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(found)))
    now = path.stat().st_mtime
    os.utime(path, (now, now - age))


def elsewhere() -> Holder:
    """Somebody on another machine, whose process id is taken here, too."""
    return replace(Holder.ourselves(), host="node7", system="another boot", token="theirs")  # noqa: S106


def test_a_lock_is_there_while_it_is_held_and_names_us(path: Path) -> None:
    with Lock(path):
        found = holder(path)
        assert found
        assert found.pid == os.getpid()
        assert names(path.parent) == [LOCK_NAME]
    assert holder(path) is None
    assert not names(path.parent)


def test_a_second_writer_is_refused_and_leaves_the_lock(path: Path) -> None:
    job = another(path)
    try:
        before = path.read_bytes()
        with pytest.raises(UsageError, match=rf"folder: is being written by process {job.pid} on"):
            Lock(path).__enter__()
        assert path.read_bytes() == before
        assert names(path.parent) == [LOCK_NAME]
    finally:
        job.kill()
        job.wait()


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_holder_loses_its_lock(
    path: Path, reaped: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one that its parent has not asked after: it can write no more."""
    job = another(path)
    job.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)
    if reaped:
        job.wait()
    with Lock(path):
        found = holder(path)
        assert found
        assert found.pid == os.getpid()
        assert names(path.parent) == [LOCK_NAME]
    assert f"process {job.pid} on" in capsys.readouterr().err
    job.wait()


def test_a_process_that_got_the_id_of_the_holder_does_not_hold_its_lock(path: Path) -> None:
    ourselves = Holder.ourselves()
    write(path, replace(ourselves, started=ourselves.started - 1))
    with Lock(path):
        assert holder(path)


@pytest.mark.parametrize("age", [STALE + 5, -1e6], ids=["silent", "of the future"])
def test_the_silent_holder_of_another_machine_loses_its_lock(path: Path, age: float) -> None:
    write(path, elsewhere(), age=age)
    assert holder(path) is None
    with Lock(path):
        found = holder(path)
        assert found
        assert found.pid == os.getpid()


def test_a_holder_on_another_machine_is_awaited(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(path, elsewhere(), age=STALE - 0.3)
    monkeypatch.setattr(lock, "_LOOK", 0.1)
    with Lock(path):
        assert holder(path)
    assert "waiting for a sign of life of process" in capsys.readouterr().err


def test_a_holder_on_another_machine_that_shows_life_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, elsewhere(), age=60)
    monkeypatch.setattr(lock, "_LOOK", 0.1)
    threading.Timer(0.3, os.utime, [path]).start()
    with pytest.raises(UsageError, match=r"process .* on node7"):
        Lock(path).__enter__()
    assert "theirs" in path.read_text()


def odd(**fields: object) -> bytes:
    """Our own lock, but for some fields."""
    return json.dumps({**asdict(Holder.ourselves()), **fields}).encode()


UNREADABLE = [
    *(
        b"",
        b"{}",
        b"[1]",
        b"\xff\xfe",
        b'{"pid": 3}',
        b"[" * 10**5,
        b'{"pid": ' + b"9" * 5000 + b"}",
    ),
    *(odd(pid="1/../1"), odd(pid=None), odd(pid=True), odd(started=1.5), odd(host=["a"]), odd(x=1)),
]


@pytest.mark.parametrize("content", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_counts_by_its_age(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert holder(path)
    old = path.stat().st_mtime - STALE - 5
    os.utime(path, (old, old))
    assert holder(path) is None
    with Lock(path):
        found = holder(path)
        assert found
        assert found.pid == os.getpid()


def test_a_lock_that_is_being_written_is_no_other_machines(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.parent.mkdir()
    path.touch()
    threading.Timer(0.2, path.write_text, [json.dumps(asdict(Holder.ourselves()))]).start()
    with pytest.raises(UsageError, match=f"is being written by process {os.getpid()} on"):
        Lock(path).__enter__()
    assert capsys.readouterr().err == ""


def test_what_is_no_file_is_no_lock(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)  # which nobody writes into: to read it would never end
    with pytest.raises(OSError, match="is not a regular file"):
        Lock(path).__enter__()
    path.unlink()
    path.symlink_to(path.with_name("other"))
    with pytest.raises(OSError, match="is a link"):
        Lock(path).__enter__()
    assert names(path.parent) == [LOCK_NAME]


def test_of_many_one_takes_over(path: Path) -> None:
    """Several threads at once, as so many processes."""
    write(path, elsewhere(), age=STALE + 5)
    ready, taken, refused = threading.Barrier(8), [], []

    def compete() -> None:
        own = Lock(path)
        ready.wait()
        try:
            own.__enter__()
        except UsageError:
            refused.append(own)
        else:
            taken.append(own)

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 7)
    taken[0].__exit__()
    assert not names(path.parent)


def test_a_clock_set_back_leaves_no_takeover_waiting(path: Path) -> None:
    """Somebody was killed while taking over, hours ahead of now."""
    write(path, elsewhere(), age=STALE + 5)
    guard = path.with_name(f"{path.name}.taken.tmp")
    guard.touch()
    ahead = guard.stat().st_mtime + 36_000
    os.utime(guard, (ahead, ahead))
    with Lock(path):
        assert not guard.exists()


def wait_for_a_beat(own: Lock, beats: threading.Semaphore) -> None:
    assert beats.acquire(timeout=20) or own.lost


def test_a_holder_shows_life_and_heals_its_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.05)
    beats = threading.Semaphore(0)
    with Lock(path, beats.release) as own:
        write(path, own._own, age=50)
        wait_for_a_beat(own, beats)
        wait_for_a_beat(own, beats)
        assert (lock._age(path) or 0) < 40
        path.unlink()
        while not path.exists():
            wait_for_a_beat(own, beats)
        assert own.lost is None
    assert not names(path.parent)


def test_a_holder_that_was_taken_for_gone_is_told_and_leaves_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with Lock(path) as own:
        partial = path.with_name("theirs")
        write(partial, elsewhere())
        partial.replace(path)
        own._thread.join(20)
        assert "was taken by process" in str(own.lost)
    assert "theirs" in path.read_text()


def test_a_lock_that_cannot_be_written_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left.*/lock'"):
        Lock(path).__enter__()
    assert not names(path.parent)
