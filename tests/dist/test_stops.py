"""How runs end: by a signal to a rank or a launcher, by a kill, by a full disk."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sce_video.engine import checkpoint
from tests.jobs import LAUNCHERS, Job
from tests.runs import environment, final_state, make_shards, write_config

INTERVAL = 2  # steps between checkpoints


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stops")
    return write_config(root / "tiny.yaml", make_shards(root))


def start(config: Path, folder: Path, launcher: str, *overrides: str, **env: str) -> Job:
    command = [*LAUNCHERS[launcher], "--config", str(config)]
    return Job(command, folder, "train.epochs=2000", "train.save_every=1000", *overrides, **env)


def to_launcher(number: int) -> Callable[[Job], None]:
    return lambda job: os.kill(job.process.pid, number)


def to_group(number: int) -> Callable[[Job], None]:
    """What a terminal does on Ctrl-C."""
    return lambda job: os.killpg(job.process.pid, number)


def to_rank(number: int) -> Callable[[Job], None]:
    return lambda job: os.kill(job.rank(1), number)


def to_launch(number: int) -> Callable[[Job], None]:
    """To the process between ``deepspeed`` and the ranks."""
    return lambda job: os.kill(job.find("deepspeed.launcher.launch"), number)


# What is sent, and the code that the launcher then gives; the README's table.
STOPS = {
    "python SIGTERM": ("python", to_launcher(signal.SIGTERM), 130),
    "python SIGUSR1": ("python", to_launcher(signal.SIGUSR1), 130),
    "python Ctrl-C": ("python", to_group(signal.SIGINT), 130),
    "deepspeed SIGTERM": ("deepspeed", to_launcher(signal.SIGTERM), 143),
    "deepspeed SIGKILL": ("deepspeed", to_launcher(signal.SIGKILL), 137),
    "deepspeed Ctrl-C": ("deepspeed", to_group(signal.SIGINT), 130),
    "launch.py SIGTERM": ("deepspeed", to_launch(signal.SIGTERM), 1),
    "launch.py SIGKILL": ("deepspeed", to_launch(signal.SIGKILL), 0),
    "deepspeed rank SIGUSR1": ("deepspeed", to_rank(signal.SIGUSR1), 130),
    "torchrun SIGTERM": ("torchrun", to_launcher(signal.SIGTERM), 1),
    "torchrun Ctrl-C": ("torchrun", to_group(signal.SIGINT), 1),
    "torchrun rank SIGUSR1": ("torchrun", to_rank(signal.SIGUSR1), 1),
}
DEFAULT = ("python Ctrl-C", "deepspeed SIGTERM", "torchrun SIGTERM")


@pytest.mark.parametrize(
    "name",
    [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.soak) for n in STOPS],
)
def test_a_signal_saves_and_no_process_stays(
    config: Path, tmp_path: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    launcher, send, expected = STOPS[name]
    job = start(config, tmp_path / "run", launcher)
    job.wait_for_step(3)
    send(job)
    seconds = job.wait_for_end()
    code, printed = job.end()
    record_property("code", code)
    record_property("seconds_to_end", round(seconds, 1))
    status = job.status()
    assert status["state"] == "interrupted", printed[-3000:]
    assert status["checkpoint"] == f"step-{status['step']:08d}"
    assert "run.resume=true" in printed
    assert not re.search(r'File ".*/sce_video/', printed)  # launchers print tracebacks of their own
    assert code == expected
    assert seconds < 30
