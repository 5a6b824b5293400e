"""What becomes of the processes that make clips when something is killed."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sce_video.errors import SceVideoError
from sce_video.shardset.index import open_shards
from sce_video.stream.loader import ClipDataset, load
from sce_video.stream.order import Position
from sce_video.stream.reader import ShardReader
from tests.conftest import REPOSITORY
from tests.unit.stream.conftest import SAMPLER


def descendants(pid: int) -> set[int]:
    """Processes below ``pid``, as they are now."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rsplit(")")[1].split()[1]
                )
            except OSError:
                continue  # it ended meanwhile
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in {pid, *found}} - found:
        found |= more
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run; the ended ones may wait for their parent (state Z)."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0]
        except OSError:
            continue
        running |= {pid} if state != "Z" else set()
    return running


@pytest.mark.slow
def test_workers_die_with_the_trainer(shards: Path, tmp_path: Path) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from sce_video.shardset.index import open_shards\n"
        "from sce_video.stream.clips import UniformClips\n"
        "from sce_video.stream.data import open_data\n"
        "from sce_video.stream.loader import ClipDataset, load\n"
        "from sce_video.stream.order import Position\n"
        "from sce_video.stream.reader import ShardReader\n"
        "if __name__ == '__main__':\n"
        "    sampler = UniformClips(1, 1, 4, 0.4, 32)\n"
        f"    dataset = ClipDataset(ShardReader(open_shards({str(shards)!r})), sampler)\n"
        "    batches = load(dataset, [[Position(0, 0)]] * 10**6, workers=2)\n"
        "    next(batches)\n"
        "    heavy = [name for name in ('deepspeed', 'webdataset') if name in sys.modules]\n"
        "    print('started', heavy, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as trainer:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == b"started []\n"  # what workers import, too, is light
        below = descendants(trainer.pid)
        assert len(below) >= 3  # the fork server and two workers
        trainer.kill()
        trainer.wait()
        deadline = time.monotonic() + 60
        while alive(below) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not alive(below)


def test_a_killed_worker_is_one_line(shards: Path) -> None:
    reader = ShardReader(open_shards(shards))
    before = descendants(os.getpid())
    dataset = ClipDataset(reader, SAMPLER, substitutes=np.arange(6))
    batches = load(dataset, [[Position(0, 0)]] * 10**5, workers=1)
    next(batches)
    started = descendants(os.getpid()) - before
    worker = max(started)  # after the fork server, if that is new, too
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(SceVideoError, match=r"was killed.*lower data\.workers"):
        collections.deque(batches, maxlen=0)
