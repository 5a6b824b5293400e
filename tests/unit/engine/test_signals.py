"""The stop flag, and the watch of DeepSpeed's launcher, with stand-ins of its programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sce_video.engine import signals
from sce_video.engine.signals import StopFlag
from tests.conftest import REPOSITORY

# A rank that says "told" when SIGUSR1 comes, and "alone" when none has for some seconds.
RANK = """
import pathlib, signal, sys, time
from sce_video.engine import signals
folder, patience = pathlib.Path(sys.argv[1]), float(sys.argv[2])
def told(number, frame):
    (folder / "told").touch()
    sys.exit()
signals._LOOK = 0.05
signal.signal(signal.SIGUSR1, told)
signals.watch_launcher()
(folder / "up").touch()
time.sleep(patience)
(folder / "alone").touch()
"""
SPAWN = "import subprocess, sys; sys.exit(subprocess.Popen(sys.argv[1:]).wait())\n"


def begin(tmp_path: Path, patience: float, *parents: str) -> subprocess.Popen[bytes]:
    """``parents``, outermost first, and at the end the rank, which waits so many seconds."""
    launch = tmp_path / "deepspeed" / "launcher" / "launch.py"
    launch.parent.mkdir(parents=True)
    launch.write_text(SPAWN)
    for package in (launch.parent, launch.parent.parent):
        (package / "__init__.py").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "deepspeed").write_text(SPAWN)
    (tmp_path / "rank.py").write_text(RANK)
    programs = {
        "deepspeed": [sys.executable, str(tmp_path / "bin" / "deepspeed")],
        "launch.py": [sys.executable, "-m", "deepspeed.launcher.launch"],
        "other": [sys.executable, "-c", SPAWN],
    }
    command = [word for parent in parents for word in programs[parent]]
    command += [sys.executable, str(tmp_path / "rank.py"), str(tmp_path), str(patience)]
    paths = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    job = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    wait_for(tmp_path / "up")
    return job


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert path.exists()


def child(process: int) -> int:
    [found] = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(found)


@pytest.mark.parametrize(
    ("parents", "killed", "expected"),
    [
        (("deepspeed", "launch.py"), 0, "told"),
        (("deepspeed", "launch.py"), 1, "told"),
        (("other", "launch.py"), 1, "told"),
        (("other", "launch.py"), 0, "alone"),  # the shell that nohup or pdsh left behind
        (("other", "other"), 1, "alone"),  # any other launcher, or none
        (("deepspeed", "other"), 1, "alone"),
    ],
    ids=[
        "deepspeed is killed",
        "its launch.py is killed",
        "launch.py of another is killed",
        "a shell above launch.py is killed",
        "another launcher is killed",
        "another launcher below deepspeed is killed",
    ],
)
def test_the_end_of_deepspeeds_launcher_is_told(
    tmp_path: Path, parents: tuple[str, ...], killed: int, expected: str
) -> None:
    job = begin(tmp_path, 60 if expected == "told" else 1, *parents)
    os.kill(child(job.pid) if killed else job.pid, signal.SIGKILL)
    job.wait(20)
    wait_for(tmp_path / expected)
    assert not (tmp_path / ("alone" if expected == "told" else "told")).exists()


def test_repeated_signals_count_once_and_a_late_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signals, "_ONCE", 1e9)
    with StopFlag() as untouched:
        pass
    assert signal.getsignal(signal.SIGTERM) is before
    assert not untouched.raised
    kept = {number: signal.getsignal(number) for number in (2, signal.SIGUSR1, signal.SIGTERM)}
    try:
        with StopFlag() as flag:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert flag.raised
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # a launcher's second, while we leave
        monkeypatch.setattr(signals, "_ONCE", 0.0)
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
