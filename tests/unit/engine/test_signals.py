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

# A rank that writes "told" when SIGUSR1 comes, and "alone" when none has for four seconds.
RANK = """
import pathlib, signal, sys, time
from sce_video.engine.signals import watch_launcher
said = pathlib.Path(sys.argv[1])
def told(number, frame):
    said.write_text("told")
    sys.exit()
signal.signal(signal.SIGUSR1, told)
watch_launcher()
said.with_name("up").touch()
time.sleep(4)
said.write_text("alone")
"""
SPAWN = "import subprocess, sys; sys.exit(subprocess.Popen(sys.argv[1:]).wait())\n"


def begin(tmp_path: Path, *parents: str) -> subprocess.Popen[bytes]:
    """``parents``, outermost first, and at the end the rank."""
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
    command += [sys.executable, str(tmp_path / "rank.py"), str(tmp_path / "said")]
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
)
def test_the_end_of_deepspeeds_launcher_is_told(
    tmp_path: Path, parents: tuple[str, ...], killed: int, expected: str
) -> None:
    job = begin(tmp_path, *parents)
    os.kill(child(job.pid) if killed else job.pid, signal.SIGKILL)
    job.wait(20)
    wait_for(tmp_path / "said")
    time.sleep(0.1)
    assert (tmp_path / "said").read_text() == expected


def test_repeated_signals_count_once_and_a_late_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
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
