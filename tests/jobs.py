"""Training runs under a launcher, to be stopped and killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from sce_video.engine import checkpoint
from sce_video.engine.track import read_metrics
from tests.runs import BIN, TRAIN, environment

LAUNCHERS = {
    "python": [sys.executable, TRAIN],
    "deepspeed": [str(BIN / "deepspeed"), "--num_gpus", "2", TRAIN],
    "torchrun": [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", TRAIN],
}


class Job:
    """A command and all processes that come of it, whatever session or parent they take."""

    def __init__(
        self,
        command: list[str],
        folder: Path,
        *overrides: str,
        preexec: Callable[[], None] | None = None,
        **env: str,
    ) -> None:
        """``folder``: of the run; a second job there goes on with it."""
        self.folder = folder
        self._mark = f"SCE_VIDEO_TEST={uuid.uuid4().hex}"
        name, _, value = self._mark.partition("=")
        self.process = subprocess.Popen(
            [*command, f"run.dir={folder}", "run.resume=auto", *overrides],
            env=environment(**{name: value}, **env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=preexec,
        )

    def processes(self) -> dict[int, list[str]]:
        """Command lines of those that live, by process id."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self._mark in (entry / "environ").read_text():
                    found[int(entry.name)] = (entry / "cmdline").read_text().split("\0")
        return found

    def find(self, word: str) -> int:
        """The one process that has an argument ``word``."""
        [process] = [pid for pid, words in self.processes().items() if word in words]
        return process

    def rank(self, number: int) -> int:
        """The process of a rank."""
        for pid, words in self.processes().items():
            if TRAIN in words and f"RANK={number}\0" in Path(f"/proc/{pid}/environ").read_text():
                return pid
        raise AssertionError(f"no rank {number}")

    def worker(self, rank: int) -> int:
        """A process that makes a rank's clips: the youngest of its fork server's."""
        trainer = self.rank(rank)
        servers = [pid for pid in self.processes() if parent(pid) == trainer]
        return max(pid for pid in self.processes() if parent(pid) in servers)

    def memory(self) -> int:
        """Bytes of data that all processes hold; a library's pages are shared with other jobs."""
        total = 0
        for process in self.processes():
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
            for kind in ("Pss_Anon:", "Pss_Shmem:"):
                total += int(rollup.partition(kind)[2].split()[0]) * 1024
        return total

    def wait_for_step(self, step: int, limit: float = 200) -> None:
        """Until a row of ``step`` or later is logged."""
        deadline = time.monotonic() + limit
        while self.step() < step:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(self.process.communicate()[0][-3000:])
            time.sleep(0.05)

    def step(self) -> int:
        """The newest that is logged; 0 = none."""
        with contextlib.suppress(json.JSONDecodeError):  # half a line
            if rows := read_metrics(self.folder):
                return int(rows[-1]["step"])
        return 0

    def wait_for_end(self, limit: float = 60) -> float:
        """Seconds until no process is left; all are killed where that takes too long."""
        began = time.monotonic()
        while (left := self.processes()) and time.monotonic() - began < limit:
            self.process.poll()
            time.sleep(0.1)
        seconds = time.monotonic() - began
        self.kill()
        assert not left, left
        return seconds

    def kill(self) -> None:
        """SIGKILL to every process."""
        while left := self.processes():
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self.process.poll()

    def end(self) -> tuple[int, str]:
        """The launcher's exit code as a shell gives it, and all that was printed."""
        printed, _ = self.process.communicate(timeout=60)
        code = self.process.returncode
        return (code if code >= 0 else 128 - code), printed

    def status(self) -> dict[str, object]:
        """``status.json``; what it names as checkpoint must verify."""
        status: dict[str, object] = json.loads((self.folder / "status.json").read_text())
        path, _ = checkpoint.newest(self.folder / "checkpoints")
        assert status["checkpoint"] == path.name
        return status


def parent(process: int) -> int:
    """Id of the process that started another, or took it over."""
    text = Path(f"/proc/{process}/stat").read_text()
    return int(text.rpartition(")")[2].split()[1])
