"""The converter beside bare PyAV loops on the same videos.

CPU seconds are what counts; wall time is told for whole conversions.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
from av.video.frame import PictureType

from sce_video.arguments import Parser, whole
from sce_video.errors import UsageError
from sce_video.shard.convert import ConversionState, convert
from sce_video.shard.plan import ConversionPlan, Settings, make_plan
from sce_video.shard.sources import Options, Record, find_source
from sce_video.shard.worker import FileJob, process_file
from sce_video.video.encode import FPS, Encoding, encoder_options
from tests.benchmarks.sets import run_bench
from tests.benchmarks.videos import make_videos
from tests.memory import resident_mib


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    videos: int
    cpu_ms: float
    """CPU milliseconds a video, all processes together."""
    ratio: float | None = None
    """Rate beside that of the bare row above it."""
    wall_rate: float | None = None
    """Videos a second of wall time."""
    memory: tuple[float, float] | None = None
    """MiB of all processes, after a fifth of the videos and at the end."""


def bare_decode(path: Path) -> None:
    """What any converter that checks its input must do at least."""
    with av.open(io.BytesIO(path.read_bytes()), "r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            continue


def bare_encode(path: Path, encoding: Encoding) -> None:
    """Decode, scale and encode in a plain loop with the settings of ``encoding``."""
    with (
        av.open(io.BytesIO(path.read_bytes()), "r") as container,
        av.open(io.BytesIO(), "w", format="mp4") as made,
    ):
        source = container.streams.video[0]
        source.codec_context.thread_count = 1
        factor = min(1.0, encoding.short_side / min(source.width, source.height))
        width, height = (2 * round(side * factor / 2) for side in (source.width, source.height))
        stream = made.add_stream("libx264", FPS, encoder_options(encoding))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        shown = -1
        for frame in container.decode(source):
            number = round((frame.time or 0.0) * FPS)
            if number > shown:
                shown = number
                scaled = frame.reformat(width, height, "yuv420p", threads=1)
                scaled.pts, scaled.time_base = number, Fraction(1, FPS)
                scaled.pict_type = PictureType.NONE  # else x264 repeats the types of the source
                made.mux(stream.encode(scaled))
        made.mux(stream.encode(None))


def bench_shard(folder: Path, *, rounds: int, workers: int, repeat: int) -> list[Row]:
    """The converter beside bare PyAV loops, on the videos in ``folder``.

    Args:
        folder: videos, at any depth.
        rounds: how often the rows that run in this process are taken.
        workers: of the whole conversions.
        repeat: how often the whole conversion takes each video.
    """
    records = [record for record in _plan(folder).records if record.media == "video"]
    if not records:
        raise UsageError(f"{folder}: no videos; this measures their conversion")
    encoding = Encoding(quality="fast")
    tasks: dict[str, Callable[[Record], object]] = {
        "decode, bare PyAV": lambda record: bare_decode(record.source),
        "copy, one worker's part": lambda record: process_file(FileJob(record)),
        "layered fast, bare PyAV": lambda record: bare_encode(record.source, encoding),
        "layered fast, one worker's part": lambda record: process_file(
            FileJob(record, encoding=encoding)
        ),
    }
    spent = dict.fromkeys(tasks, 0.0)
    for _ in range(rounds):
        for record in records:
            for name, task in tasks.items():
                began = time.process_time()
                task(record)
                spent[name] += time.process_time() - began
    count = rounds * len(records)
    rows: list[Row] = []
    for name, seconds in spent.items():
        used = 1000 * seconds / count
        rows.append(Row(name, count, used, None if "bare" in name else rows[-1].cpu_ms / used))
    return rows + _whole(folder, workers, repeat)


def _whole(folder: Path, workers: int, repeat: int) -> list[Row]:
    """A whole conversion (plan, index, hash, write) beside as many processes that only decode."""
    memory: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "raw"
        for number in range(repeat):  # links: the same videos under other names
            (root / f"{number}").mkdir(parents=True)
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    name = f"{number}/{path.relative_to(folder).as_posix().replace('/', '_')}"
                    (root / name).symlink_to(path.resolve())
        plan = _plan(root)
        sources = [record.source for record in plan.records]
        before = cpu_seconds()
        with get_context("spawn").Pool(workers) as pool:
            began = time.perf_counter()
            pool.map(bare_decode, sources, chunksize=4)
            bare_wall = time.perf_counter() - began
            pool.close()
            pool.join()
        least = 1000 * (cpu_seconds() - before) / plan.samples

        def look(progress: ConversionState) -> None:
            if progress.samples % max(plan.samples // 20, 1) == 0:
                memory.append((progress.samples, resident_mib()))

        before, began = cpu_seconds(), time.perf_counter()
        convert(plan, Path(temporary) / "out", workers=workers, on_progress=look)
        wall = time.perf_counter() - began
    each = 1000 * (cpu_seconds() - before) / plan.samples
    early = [mib for samples, mib in memory if 0.1 <= samples / plan.samples <= 0.3]
    late = [mib for samples, mib in memory if samples / plan.samples >= 0.8]
    grown = (max(early, default=0.0), max(late, default=0.0))
    count = plan.samples
    return [
        Row(f"decode, bare PyAV, {workers} processes", count, least, None, count / bare_wall),
        Row(f"copy, {workers} workers", count, each, least / each, count / wall, grown),
    ]


def _plan(root: Path) -> ConversionPlan:
    scan = find_source("folder").scan("folder", root, Options(unlabelled=True))
    return make_plan(scan, Settings("bench"))


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _print(rows: Sequence[Row]) -> None:
    print(f"{'':<38} {'videos':>7} {'CPU ms/video':>13} {'x bare':>7} {'videos/s':>9}  MiB")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        rate = "" if row.wall_rate is None else f"{row.wall_rate:.1f}"
        memory = "" if row.memory is None else "{:.0f} -> {:.0f}".format(*row.memory)
        line = f"{row.name:<38} {row.videos:>7,} {row.cpu_ms:>13.2f} {ratio:>7} {rate:>9}  {memory}"
        print(line.rstrip())


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    parser = Parser(prog="python -m tests.benchmarks.shard", description=__doc__)
    parser.add_argument("--videos", type=Path, help="folder of videos (default: it makes its own)")
    parser.add_argument("--rounds", type=whole(1), default=3, help="default 3")
    parser.add_argument("--workers", type=whole(1), default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeat", type=whole(1), default=8, help="whole conversion: times")

    def bench(args: argparse.Namespace) -> list[Row]:
        if args.videos is not None and not args.videos.is_dir():
            raise UsageError(f"{args.videos}: no such folder")
        with tempfile.TemporaryDirectory() as made:
            folder = args.videos or Path(made)
            if args.videos is None:
                make_videos(folder, 8)
            return bench_shard(folder, rounds=args.rounds, workers=args.workers, repeat=args.repeat)

    return run_bench(parser, argv, bench, _print)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
