"""Batches of clips or images from worker processes.

CPU seconds are those of all processes together. They are counted between two batches in full
flow, so that starting the workers does not count.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from sce_video.arguments import Parser, between, whole
from sce_video.progress import Progress
from tests.benchmarks.feeds import IN_PROCESS, Feed, find_feeds, image_feeds
from tests.benchmarks.sets import add_arguments, open_sets, run_bench
from tests.benchmarks.timing import at_least, one_thread, print_goals, print_table
from tests.benchmarks.ways import CLIPS, Clips

LEAST = 0.85
"""Of the rate in one process, for each CPU second."""
_WARM = 2  # batches a worker, before the clock starts
_COLUMNS = {"per_cpu_s": ".1f", "of_in_process": ".0%", "per_wall_s": ".1f", "spread": ".0%"}


def all_cpu_seconds() -> float:
    """CPU seconds so far of this process and of all that live below it (Linux)."""
    found, ticks = [os.getpid()], 0
    for pid in found:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # user, system
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def flow(feed: Feed, seconds: float, workers: int) -> tuple[float, float]:
    """What comes out in a CPU second and in a wall second, over at least ``seconds`` of wall time.

    Workers deliver in turn: both ends of the stretch are at the same worker's delivery.
    """
    with closing(feed()) as batches:
        for _ in range(_WARM * workers):
            next(batches)
        wall, cpu, made = time.perf_counter(), all_cpu_seconds(), 0
        while time.perf_counter() - wall < seconds:
            made += sum(next(batches) for _ in range(workers))
        return made / (all_cpu_seconds() - cpu), made / (time.perf_counter() - wall)


def bench_loader(
    feeds: Mapping[str, Feed], *, rounds: int, seconds: float, workers: int
) -> list[dict[str, Any]]:
    """A row a feed: medians of ``rounds`` rounds in each of which every feed has its turn."""
    rng = np.random.default_rng(0)
    names = list(feeds)
    rates = {name: np.zeros((rounds, 2)) for name in names}
    with Progress(rounds * len(names), "feeds") as bar:
        for turn in range(rounds):
            for number, place in enumerate(rng.permutation(len(names)).tolist()):
                rates[names[place]][turn] = flow(feeds[names[place]], seconds, workers)
                bar.update(turn * len(names) + number + 1)
    rows = []
    for name, found in rates.items():
        row: dict[str, Any] = {"name": name}
        row["per_cpu_s"], row["per_wall_s"] = np.median(found, 0).tolist()
        row["spread"] = float(np.ptp(found[:, 0]) / row["per_cpu_s"])
        alone = rates.get(name.rpartition(",")[0] + IN_PROCESS)
        if alone is not None and not name.endswith(IN_PROCESS):
            row["of_in_process"] = float(np.median(found[:, 0] / alone[:, 0]))
        rows.append(row)
    return rows


def _print(result: Mapping[str, Any]) -> None:
    print(f"{result['machine']}\n{result['command']}")
    print(f"clips of {result['videos']} videos, {CLIPS} each; views of {result['images']} images\n")
    print_table("", _COLUMNS, result["rows"])
    print_goals(result, least=".0%")


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    parser = Parser(prog="python -m tests.benchmarks.loader", description=__doc__)
    add_arguments(parser, rounds=3)
    parser.add_argument("--workers", type=whole(1), default=2, help="default 2")
    parser.add_argument("--span", type=between(0.1, 600), default=3.0, help="seconds (default 3)")
    parser.add_argument("--images", type=whole(8), default=64, help="images (default 64)")

    def bench(args: argparse.Namespace) -> dict[str, Any]:
        clips = Clips(args.frames, args.seconds, args.size)
        with open_sets(args) as sets, one_thread(), tempfile.TemporaryDirectory() as temporary:
            feeds, missing = find_feeds(sets, clips, args.workers, Path(temporary))
            feeds |= image_feeds(Path(temporary), args.images, args.workers)
            rows = bench_loader(feeds, rounds=args.rounds, seconds=args.span, workers=args.workers)
            videos = max(map(len, sets.values()))
        targets = [
            at_least(row["name"], value, LEAST)
            for row in rows
            if (value := row.get("of_in_process")) is not None
        ]
        result = {"videos": videos, "images": args.images, "rows": rows}
        return {**result, "targets": targets, "missing": missing}

    return run_bench(parser, argv, bench, _print)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
