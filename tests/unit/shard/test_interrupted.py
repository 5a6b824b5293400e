"""Signals, kill -9 and full disks, with real processes: a rerun gives the undisturbed bytes."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.unit.shard.layouts import class_folders, content

SIGNALLED = "sce-video: interrupted; run the same command again to continue shards/folder"


GOING_ON = re.compile(
    r"[1-9]\d* shards are finished: going on"
    r"|sce-video: shards/folder/lock: process \d+ on .*, since .*, has gone; going on"
)

Process = subprocess.Popen[str]


def start(cwd: Path, per_shard: int = 4, workers: int = 1, limit: int | None = None) -> Process:
    """``python -m sce_video.shard folder`` with small shards, as a terminal starts it.

    ``limit`` is on the bytes of a file.
    """
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit or -1},) * 2)\n"
        "from sce_video.shard import __main__, plan\n"
        f"plan.SAMPLES_PER_SHARD = {{'video': {per_shard}}}\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(__main__.main())\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, "folder", "--workers", str(workers)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: Process) -> tuple[int, list[str]]:
    """Exit code and lines on standard error, less those that say that it goes on."""
    _, complaint = process.communicate(timeout=120)
    lines = complaint.splitlines()
    return process.returncode, [line for line in lines if not GOING_ON.fullmatch(line)]


def wait_for(process: Process, happened: Callable[[], object]) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def workers_of(process: Process) -> list[int]:
    """Its decoding processes."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        n for n in map(int, children) if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()
    ]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    """A folder with ``raw/folder``: 120 videos."""
    folder = tmp_path_factory.mktemp("place")
    class_folders(folder / "raw" / "folder", clips, each=40)
    return folder / "raw"


@pytest.fixture
def place(tmp_path: Path, raw: Path) -> Path:
    (tmp_path / "raw").symlink_to(raw)
    return tmp_path


@pytest.fixture(scope="module")
def in_one_go(raw: Path) -> tuple[dict[str, bytes], float]:
    """The set in 30 shards, and seconds from the first file to the end."""
    folder = raw.parent / "shards" / "folder"
    process = start(raw.parent, workers=2)
    wait_for(process, folder.exists)
    began = time.monotonic()
    assert finish(process) == (0, [])
    return content(folder), time.monotonic() - began


@pytest.fixture(scope="module")
def undisturbed(in_one_go: tuple[dict[str, bytes], float]) -> dict[str, bytes]:
    return in_one_go[0]


def test_the_first_ctrl_c_finishes_the_shard(place: Path, undisturbed: dict[str, bytes]) -> None:
    folder = place / "shards" / "folder"
    process = start(place)
    wait_for(process, lambda: (folder / "folder-000001.tar").exists())
    os.killpg(process.pid, signal.SIGINT)
    code, (first, last) = finish(process)
    assert (code, last) == (130, SIGNALLED)
    named = re.fullmatch(r"finishing (folder-0000\d\d\.tar); Ctrl-C again stops at once", first)
    assert named
    assert max(path.name for path in folder.glob("*.tar*")) == named[1]
    assert finish(start(place)) == (0, [])
    assert content(folder) == undisturbed


@pytest.mark.slow
def test_the_second_ctrl_c_stops_at_once(place: Path) -> None:
    folder = place / "shards" / "folder"
    process = start(place, per_shard=100)
    partial = folder / "folder-000000.tar.tmp"

    def begun() -> bool:
        try:
            return partial.stat().st_size > 0
        except FileNotFoundError:  # not yet, or not any more for a moment
            return False

    wait_for(process, begun)
    for number in workers_of(process):
        os.kill(number, signal.SIGSTOP)  # so that the shard cannot be finished
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None, finish(process)
    assert not list(folder.glob("*.tar"))
    os.killpg(process.pid, signal.SIGINT)
    code, (first, last) = finish(process)
    assert (code, last) == (130, SIGNALLED)
    assert first.startswith("finishing folder-000000.tar; ")
    assert not list(folder.glob("*.tar*"))
    assert finish(start(place, per_shard=100)) == (0, [])
    assert len(list(folder.glob("*.tar"))) == 2


def test_sigterm_stops_at_once(place: Path, undisturbed: dict[str, bytes]) -> None:
    folder = place / "shards" / "folder"
    process = start(place)
    wait_for(process, lambda: (folder / "folder-000001.tar").exists())
    os.killpg(process.pid, signal.SIGTERM)
    assert finish(process) == (130, [SIGNALLED])
    _, told = (again := start(place)).communicate(timeout=120)
    assert (again.returncode, bool(GOING_ON.fullmatch(told.strip()))) == (0, True)
    assert content(folder) == undisturbed


def test_ctrl_c_in_the_last_shard_changes_nothing(place: Path) -> None:
    folder = place / "shards" / "folder"
    process = start(place, per_shard=1000)
    wait_for(process, lambda: (folder / "folder-000000.tar.tmp").exists())
    os.killpg(process.pid, signal.SIGINT)
    code, lines = finish(process)
    # On a busy machine the shard may be done before the signal comes.
    writing = ("folder-000000.tar", "index.parquet")
    assert (code, *lines) in [(0, f"finishing {n}; Ctrl-C again stops at once") for n in writing]
    assert (folder / "manifest.json").exists()


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(n, marks=pytest.mark.soak) for n in range(2, 22))]
)
def test_kill_9_at_any_moment(
    seed: int,
    place: Path,
    in_one_go: tuple[dict[str, bytes], float],
    record_property: Callable[[str, object], None],
) -> None:
    folder = place / "shards" / "folder"
    undisturbed, seconds = in_one_go
    draw = random.Random(seed)  # noqa: S311
    process = start(place, workers=2)
    wait_for(process, folder.exists)
    time.sleep(draw.uniform(0, seconds))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    record_property("code", process.returncode)
    record_property("shards when killed", len(list(folder.glob("*.tar"))))
    assert finish(start(place, workers=2)) == (0, [])
    assert content(folder) == undisturbed


def test_killed_in_the_first_and_in_the_last_moment(
    place: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = place / "shards" / "folder"
    folder.mkdir(parents=True)
    (folder / ".plan.json.tmp").write_text("{")
    assert finish(start(place)) == (0, [])
    assert content(folder) == undisturbed
    (folder / ".journal.jsonl").write_text("[]\n")
    assert finish(start(place)) == (0, [])
    assert content(folder) == undisturbed


@pytest.fixture
def disk(place: Path) -> Iterator[Path]:
    """A file system of 200 KiB at ``PLACE/shards``; the set needs three times as much."""
    folder = place / "shards"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    try:
        result = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    if result.returncode:
        pytest.skip(f"no file system can be mounted here: {result.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607


def test_a_full_disk(place: Path, disk: Path, undisturbed: dict[str, bytes]) -> None:
    code, lines = finish(start(place))
    assert code == 1
    assert lines[0].startswith("warning: shards/folder needs ")
    kept = len(list((disk / "folder").glob("*.tar")))
    told = f"the disk is full; {kept} finished shards are kept, make room and run again"
    assert [line.partition(": the ")[2] for line in lines[1:]] == [told.removeprefix("the ")]
    assert 2 < kept < 30
    assert not list((disk / "folder").glob("*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)  # noqa: S607
    assert finish(start(place)) == (0, [])
    assert content(disk / "folder") == undisturbed


def test_a_limit_on_the_size_of_files(place: Path) -> None:
    told = "no file may be so large (file system, or ulimit -f); 0 finished shards are kept, "
    code, [line] = finish(start(place, per_shard=100, limit=50_000))
    tar = "shards/folder/folder-000000.tar"
    assert (code, line) == (1, f"sce-video: {tar}: {told}allow more and run again")
    assert not list((place / "shards" / "folder").glob("*.tar*"))
    assert finish(start(place, per_shard=100)) == (0, [])
