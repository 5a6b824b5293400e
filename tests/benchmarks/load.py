"""Large sets: what it takes to look at one, to plan a run on it, to begin a run and to go on.

The set is made by the converter from one clip, whose bytes each sample has, so that nothing is
decoded for it. Each figure is of a whole process, imports included.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sce_video.arguments import Parser, whole
from sce_video.errors import SceVideoError
from sce_video.files import sha256_file
from sce_video.shard.convert import convert
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.pool import Pool
from sce_video.shard.sources import Record, Scan
from sce_video.shard.worker import FileJob, process_file
from sce_video.shardset.index import INDEX_NAME, open_shards, write_table
from sce_video.shardset.manifest import write_manifest
from tests.benchmarks.sets import run_bench
from tests.runs import environment
from tests.videos import moving_square, write_video

OPEN = "import sys; from sce_video.shardset.index import open_shards; open_shards(sys.argv[1])"
FIRST = """
import sys
from sce_video.config.load import load_pretraining
from sce_video.engine.pretrain import PretrainTask
from sce_video.engine.runtime import start_runtime
from sce_video.stream.data import open_data
shards, consumed = sys.argv[1:]
keys = [f"data.shards={shards}", "data.split=train", "data.workers=2"]
config = load_pretraining("demo.yaml", keys)
index, plan = open_data(config, 0, 1)
task = PretrainTask(config, index, plan, start_runtime(2))
assert len(next(task.batches(int(consumed))).names) == config.train.batch_size
"""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    wall: float  # seconds
    cpu: float  # seconds, of the process and what it waited for
    memory: float  # MiB that the process had at most


class _Made(Pool[Any, Any]):
    """A pool whose workers all have the same clip in hand."""

    done: Any

    def map(self, jobs: Any) -> Iterator[Any]:
        """The same answer to each job."""
        return (self.done for _ in jobs)


def make_large_set(folder: Path, samples: int, classes: int) -> None:
    """A set of ``samples`` videos of ``classes`` classes in ``folder / "set"``."""
    clip = folder / "clip.mp4"
    write_video(clip, moving_square(30, seed=1))
    _Made.done = process_file(FileJob(Record("clip.mp4", clip, clip.stat().st_size)))
    names = tuple(f"class number {number:05d}" for number in range(classes))
    records = (
        Record(f"{names[i % classes]}/{i:07d}.mp4", clip, 1, i % classes, {"split": "train"})
        for i in range(samples)
    )
    scan = Scan("video", tuple(records), names, ("split",))
    convert(make_plan(scan, Settings("large")), folder / "set", workers=1, pool_type=_Made)


def repeat_index(folder: Path, times: int) -> None:
    """The set's index ``times`` over in ``folder / "index"``, without its tars."""
    made, out = open_shards(folder / "set"), folder / "index"
    out.mkdir()
    tables, shards = [], []
    for turn in range(times):
        table = made.table
        for column in ("shard", "key"):
            texts = pa.array(f"{turn}-{text}" for text in made.strings(column))
            table = table.set_column(table.column_names.index(column), column, texts)
        tables.append(table)
        shards += [s.model_copy(update={"name": f"{turn}-{s.name}"}) for s in made.manifest.shards]
    write_table(out / INDEX_NAME, pa.concat_tables(tables))
    splits = {c: {v: n * times for v, n in of.items()} for c, of in made.manifest.splits.items()}
    changes = {"samples": len(made) * times, "shards": tuple(shards), "splits": splits}
    changes["index_sha256"] = sha256_file(out / INDEX_NAME)
    write_manifest(out, made.manifest.model_copy(update=changes))


def make_list(folder: Path, lines: int) -> None:
    """A csv of ``lines`` videos in ``folder / "raw"``, of which it has a few."""
    (folder / "raw").mkdir()
    with (folder / "list.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("path", "label", "split"))
        table.writerows((f"{i % 1000}/{i}.mp4", i % 1000, "train") for i in range(lines))
    for number in range(10):
        (folder / "raw" / str(number)).mkdir()
        shutil.copy(folder / "clip.mp4", folder / "raw" / str(number) / f"{number}.mp4")


def spend(name: str, *command: str, cwd: Path) -> Row:
    """Run a command to its end.

    Raises:
        SceVideoError: it fails.
    """
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, cwd=cwd, stdout=told, stderr=told, env=environment())
        _, status, used = os.wait4(process.pid, 0)
        wall, process.returncode = time.perf_counter() - began, os.waitstatus_to_exitcode(status)
        told.seek(0)
        if process.returncode:
            raise SceVideoError(f"{name}: ends with {process.returncode}: {told.read()[-500:]}")
    return Row(name, wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def measure(folder: Path, samples: int, classes: int) -> list[Row]:
    """All rows, on sets that are made in ``folder``."""
    make_large_set(folder, samples, classes)
    repeat_index(folder, 5)
    make_list(folder, 5 * samples)
    python, shards = sys.executable, str(folder / "set")
    ours = (python, "-m", "sce_video")
    keys = (f"data.shards={shards}", "data.split=train", f"run.dir={folder / 'run'}")
    listed = ("--root", "raw", "--csv", "list.csv", "--out", "out", "--dry-run")
    return [
        spend("shard info", *ours, "shard", "info", shards, cwd=folder),
        spend(
            "train --dry-run",
            *ours,
            "train",
            "--config",
            "demo.yaml",
            *keys,
            "--dry-run",
            cwd=folder,
        ),
        spend("first batch", python, "-c", FIRST, shards, "0", cwd=folder),
        spend(
            "first batch of a resume", python, "-c", FIRST, shards, str(samples // 2), cwd=folder
        ),
        spend("index of 5 times as many", python, "-c", OPEN, str(folder / "index"), cwd=folder),
        spend("csv of 5 times as many", *ours, "shard", "folder", *listed, cwd=folder),
    ]


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; returns the exit code."""
    parser = Parser(prog="python -m tests.benchmarks.load", description=__doc__)
    parser.add_argument("--samples", type=whole(64), default=200_000, help="(default 200,000)")
    parser.add_argument("--classes", type=whole(1), default=10_000, help="(default 10,000)")

    def bench(args: argparse.Namespace) -> list[Row]:
        with tempfile.TemporaryDirectory() as folder:
            return measure(Path(folder), args.samples, args.classes)

    return run_bench(parser, argv, bench, _print)


def _print(rows: list[Row]) -> None:
    print(f"{'':<26} {'wall s':>8} {'CPU s':>8} {'MiB':>8}")
    for row in rows:
        print(f"{row.name:<26} {row.wall:>8.1f} {row.cpu:>8.1f} {row.memory:>8.0f}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
