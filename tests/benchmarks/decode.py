"""Random clips out of videos, by this project and by other libraries.

CPU time of one core and one thread, of bytes in memory, to RGB frames: two random clips a video.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sce_video.arguments import Parser
from sce_video.errors import SceVideoError, UsageError
from sce_video.shardset.index import ShardIndex
from sce_video.stream.cut import all_needed, make_clips
from sce_video.stream.reader import ShardReader
from sce_video.video.decode import decode_frames
from sce_video.video.decode.planned import plan_packets
from sce_video.video.packets import PacketIndex
from tests.benchmarks.chart import write_chart
from tests.benchmarks.peers import reason
from tests.benchmarks.sets import Machine, add_arguments, open_sets, run_bench
from tests.benchmarks.timing import (
    Prepare,
    Spent,
    Work,
    at_least,
    at_most,
    measure,
    one_thread,
    print_goals,
    print_table,
)
from tests.benchmarks.ways import CLIPS, PLACES, Clips, Sample, Way, find_ways, ours, read_set

BASE = "pytorchvideo EncodedVideo"
_COPY, _LAYERED, _GRID = (f"ours, {kind}, grid {grid}" for kind, grid in PLACES)
TARGETS = (
    (_COPY, BASE, 6.0),
    (_LAYERED, BASE, 25.0),
    (_GRID, BASE, 40.0),
    (_GRID, "torchcodec, layered, grid 8", 4.0),
)
"""This many times as fast as that row."""
MAX_PYTHON = 0.05  # of the time to decode
MAX_ACCESS = 0.02  # of the time to make a sample
_COLUMNS = {
    "cpu_ms": ".2f",
    "clips_per_s": ".1f",
    "x_pytorchvideo": ".1f",
    "wall_ms": ".2f",
    "noise": ".0%",
    "packets": ".1f",
    "frames": ".1f",
    "python": ".1%",
}


def bench_decode(
    sets: Mapping[str, ShardIndex], clips: Clips, *, count: int, rounds: int
) -> dict[str, Any]:
    """All tables, as JSON values.

    Args:
        sets: by kind, of the same videos.
        clips: to cut.
        count: videos.
        rounds: how often each row takes each video.
    """
    ways, missing = find_ways(list(sets))
    read = {kind: read_set(index, count) for kind, index in sets.items()}
    names = sorted(set.intersection(*map(set, read.values())))
    left_out = _failures(ways, read, names, clips)
    if not (names := [name for name in names if name not in left_out]):
        raise SceVideoError(f"no video that all rows decode: {left_out or 'none has an index'}")
    samples = {kind: [found[name] for name in names] for kind, found in read.items()}
    timed = {name: partial(_prepare, way, samples[way.kind], clips) for name, way in ways.items()}
    spent = measure(timed, rounds, len(names))
    rows = [_row(name, way, spent, samples[way.kind], clips) for name, way in ways.items()]
    parts = [
        _parts(sets[kind], grid, clips, count, rounds) for kind, grid in PLACES if kind in sets
    ]
    return {
        "videos": len(names),
        "mbit_per_s": {kind: _bit_rate(found) for kind, found in samples.items()},
        "rows": rows,
        "parts": parts,
        "targets": _targets(rows, parts),
        "missing": missing,
        "left_out": left_out,
    }


def _prepare(way: Way, samples: Sequence[Sample], clips: Clips, number: int) -> Work:
    sampler, sample = clips.sampler(way.grid, way.difference), samples[number]
    read = replace(sample, media=bytes(bytearray(sample.media)))  # as if it was just read: in cache
    return way.prepare(read, sampler(sample.video, 0, number))


def _failures(
    ways: Mapping[str, Way],
    read: Mapping[str, Mapping[str, Sample]],
    names: Sequence[str],
    clips: Clips,
) -> dict[str, str]:
    """Videos that a way cannot decode, with why; all ways are warm after that."""
    failed = {}
    for video in names:
        for name, way in ways.items():
            try:
                _prepare(way, [read[way.kind][video]], clips, 0)()
            except Exception as error:  # noqa: BLE001  (libraries raise what they like)
                failed[video] = f"{name}: {reason(error)}"
                break
    return failed


def _row(
    name: str, way: Way, spent: Mapping[str, Spent], samples: Sequence[Sample], clips: Clips
) -> dict[str, Any]:
    used = spent[name]
    row: dict[str, Any] = {
        "name": name,
        "cpu_ms": used.cpu_ms,
        "wall_ms": used.wall_ms,
        "clips_per_s": 1000 * CLIPS / used.cpu_ms,
        "x_pytorchvideo": spent[BASE].cpu_ms / used.cpu_ms if BASE in spent else None,
        "noise": used.noise,
    }
    if way.prepare is ours:
        counts = []
        sampler = clips.sampler(way.grid, way.difference)
        for number, sample in enumerate(samples):
            index = PacketIndex.from_bytes(sample.idx)
            numbers = all_needed(sampler(sample.video, 0, number))
            counts.append((sum(map(len, plan_packets(index, numbers))), len(numbers)))
        row["packets"], row["frames"] = np.mean(counts, 0).tolist()
        if (bare := spent.get(name.replace("ours", "bare libav"))) is not None:
            row["python"] = 1 - bare.cpu_ms / used.cpu_ms
    return row


def _bit_rate(samples: Sequence[Sample]) -> float:
    """Mbit a second of video."""
    seconds = sum(sample.video.duration for sample in samples)
    return 8e-6 * sum(len(sample.media) for sample in samples) / seconds


def _parts(index: ShardIndex, grid: int, clips: Clips, count: int, rounds: int) -> dict[str, Any]:
    """Shares of what a sample takes from the tar to its two resized views."""
    reader, sampler = ShardReader(index), clips.sampler(grid)

    def cut(row: int) -> Work:
        specs = sampler(reader.video(row), 0, row)
        return partial(make_clips, reader.media(row), specs, reader.packets(row))

    def decode(row: int) -> Work:
        numbers = all_needed(sampler(reader.video(row), 0, row))
        return partial(decode_frames, reader.media(row), numbers, reader.packets(row))

    ways: dict[str, Prepare] = {
        "media": lambda row: partial(reader.media, row),
        "idx": lambda row: partial(reader.packets, row),
        "sampler": lambda row: partial(sampler, reader.video(row), 0, row),
        "decode": decode,
        "crop": cut,
    }
    spent = {name: s.cpu_ms for name, s in measure(ways, rounds, min(count, len(index))).items()}
    spent["crop"] -= spent["decode"]
    whole = sum(spent.values())
    name = f"{index.manifest.encode['mode']}, grid {grid}"
    return {"name": name, "cpu_ms": whole, **{part: s / whole for part, s in spent.items()}}


def _targets(
    rows: Sequence[Mapping[str, Any]], parts: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What is aimed at, beside what was measured; only what these rows can tell."""
    targets = []
    cpu = {row["name"]: row["cpu_ms"] for row in rows}
    for fast, slow, least in TARGETS:
        if fast in cpu and slow in cpu:
            targets.append(at_least(f"{fast}: times {slow}", cpu[slow] / cpu[fast], least))
    for row in rows:
        if "python" in row:
            targets.append(at_most(f"{row['name']}: Python's share", row["python"], MAX_PYTHON))
    for part in parts:
        name = f"{part['name']}: reading the tar, of a sample"
        targets.append(at_most(name, part["media"] + part["idx"], MAX_ACCESS))
    return targets


def _print(result: Mapping[str, Any]) -> None:
    print(f"{result['machine']}\n{result['command']}")
    rates = ", ".join(f"{kind} {rate:.2f} Mbit/s" for kind, rate in result["mbit_per_s"].items())
    print(f"{result['videos']} videos, {CLIPS} clips each: {rates}; times are for a video\n")
    print_table("", _COLUMNS, result["rows"])
    shares = dict.fromkeys(("media", "idx", "sampler", "decode", "crop"), ".1%")
    print()
    print_table("parts of a sample", {"cpu_ms": ".2f", **shares}, result["parts"])
    print_goals(result, least=".1f", most=".1%")
    for name, why in result["left_out"].items():
        print(f"left out: {name}: {why}")


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    parser = Parser(prog="python -m tests.benchmarks.decode", description=__doc__)
    add_arguments(parser, rounds=5)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="bar chart, SVG")

    def bench(args: argparse.Namespace) -> dict[str, Any]:
        if args.plot is not None and not args.plot.parent.is_dir():
            raise UsageError(f"--plot: no folder {args.plot.parent}")
        clips = Clips(args.frames, args.seconds, args.size)
        with open_sets(args) as sets, one_thread():
            result = bench_decode(sets, clips, count=args.count, rounds=args.rounds)
        if args.plot is not None:
            command = shlex.join([*parser.prog.split(), *argv])
            write_chart(args.plot, result["rows"], str(Machine.here()), command)
        return result

    return run_bench(parser, argv, bench, _print)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
