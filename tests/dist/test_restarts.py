"""One command starts a run and goes on with it, whatever ended it; one process writes it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from sce_video.engine.track import read_metrics
from tests.jobs import LAUNCHERS, Job
from tests.runs import BIN, TRAIN, make_shards, run, write_config

RESTARTS = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", "--max-restarts", "2"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("restarts")
    return write_config(root / "tiny.yaml", make_shards(root))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_torchrun_starts_again_what_was_killed(config: Path, tmp_path: Path) -> None:
    """The main rank's end leaves its lock, which the next main rank takes over."""
    command = [*RESTARTS, TRAIN, "--config", str(config)]
    job = Job(command, tmp_path / "run", "train.epochs=30", "train.save_every=2 steps")
    job.wait_for_step(7)
    os.kill(job.rank(0), signal.SIGKILL)
    job.wait_for_end(240)
    code, printed = job.end()
    assert code == 0, printed[-3000:]
    status = job.status()
    assert (status["state"], status["step"]) == ("done", 60)
    assert "resumed from" in printed
    assert "has gone; going on" in printed
    assert [row["step"] for row in read_metrics(job.folder)] == list(range(1, 61))
    assert not (job.folder / "lock").exists()


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(
    config: Path, tmp_path: Path
) -> None:
    command, never = [*LAUNCHERS["python"], "--config", str(config)], "train.save_every=1000"
    job = Job(command, tmp_path / "run", never, "train.epochs=2000")
    job.wait_for_step(3)
    job.kill()
    job.end()
    assert json.loads((job.folder / "status.json").read_text())["state"] == "running"
    job = Job(command, tmp_path / "run", never)
    job.wait_for_end(240)
    code, printed = job.end()
    assert code == 0, printed[-3000:]
    assert [row["step"] for row in read_metrics(job.folder)] == list(range(1, 9))
    before = contents(job.folder)
    again = run(*command, never, f"run.dir={job.folder}", "run.resume=auto")  # the same command
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == f"{job.folder}: complete, nothing to do (step 8 of 8)\n"
    assert contents(job.folder) == before


@pytest.mark.slow
def test_of_two_that_start_together_one_trains(config: Path, tmp_path: Path) -> None:
    command = [*LAUNCHERS["python"], "--config", str(config)]
    jobs = [Job(command, tmp_path / "run", "train.epochs=12") for _ in range(2)]
    for job in jobs:
        job.wait_for_end(240)
    ends = sorted(job.end() for job in jobs)
    assert [code for code, _ in ends] == [0, 2], [text[-3000:] for _, text in ends]
    assert "run: is being written by process" in ends[1][1]
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(1, 25))


@pytest.mark.slow
def test_ranks_that_must_not_go_on_all_end_with_one_line(config: Path, tmp_path: Path) -> None:
    first = [sys.executable, TRAIN, "--config", str(config), f"run.dir={tmp_path / 'run'}"]
    assert run(*first, "run.max_steps=3").returncode == 0
    command = [*LAUNCHERS["deepspeed"], "--config", str(config)]
    job = Job(command, tmp_path / "run", "run.max_steps=5", "model.width=8")
    job.wait_for_end(120)
    code, printed = job.end()
    assert code == 2
    assert "Traceback" not in printed
    [line] = [line for line in printed.splitlines() if line.startswith("sce-video: ")]
    assert "step-00000003 was made with model.width 4 (now 8)" in line
    assert line.partition(": ")[2] in (job.folder / "run.log").read_text()


DEVICES = ("metrics.jsonl", "run.log")  # what is written to as it is


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("metrics.jsonl", marks=pytest.mark.slow),
        *(pytest.param(n, marks=pytest.mark.soak) for n in ("run.log", "views.png", "status.json")),
    ],
)
def test_a_full_disk_is_one_line_with_the_file(name: str, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").touch()
    if name in DEVICES:
        (folder / name).symlink_to("/dev/full")
    else:
        (tmp_path / "sitecustomize.py").write_text(FULL.format(name=name))
    start = (sys.executable, TRAIN, "--config", str(config), f"run.dir={folder}")
    ended = run(*start, "run.resume=auto", PYTHONPATH=str(tmp_path))
    assert ended.returncode == 1, ended.stderr[-3000:]
    assert "Traceback" not in ended.stderr
    line = ended.stderr.splitlines()[-1]
    assert f"{name}: the disk is full; make room, and start it again with run.resume=auto" in line
    if name in ("metrics.jsonl", "views.png"):
        assert json.loads((folder / "status.json").read_text())["state"] == "failed"
    assert not list(folder.rglob("*.tmp"))


FULL = """
import os
fsync = os.fsync
def full(descriptor):
    if os.readlink(f"/proc/self/fd/{{descriptor}}").endswith("/{name}.tmp"):
        raise OSError(28, "No space left on device")
    fsync(descriptor)
os.fsync = full
"""
"""A disk that has no room for one file."""
