"""Shard sets for a bench: made of its own videos or of a folder, or one that is there."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sce_video.arguments import Parser, whole
from sce_video.errors import UsageError
from sce_video.shard.convert import convert
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.sources import Options, find_source
from sce_video.shardset.index import ShardIndex, open_shards
from sce_video.video.encode import Encoding
from tests.benchmarks.videos import make_videos

LIBRARIES = (
    "torch",
    "av",
    "torchvision",
    "pytorchvideo",
    "decord",
    "torchcodec",
    "webdataset",
    "lightly",
)
"""Named with their versions beside every table."""


def add_arguments(parser: Parser, *, rounds: int) -> None:
    """What to measure on, and how to tell."""
    parser.add_argument("--videos", type=Path, help="folder of videos (default: it makes its own)")
    parser.add_argument("--shards", type=Path, help="shard set; only the rows that its kind allows")
    parser.add_argument("--count", type=whole(1), default=8, help="videos (default 8)")
    parser.add_argument("--rounds", type=whole(1), default=rounds, help=f"default {rounds}")
    parser.add_argument("--frames", type=whole(1), default=8, help="of a clip (default 8)")
    parser.add_argument("--seconds", type=float, default=2.56, help="of a clip (default 2.56)")
    parser.add_argument("--size", type=whole(1), default=112, help="of a view (default 112)")


def run_bench(
    parser: Parser,
    argv: Sequence[str],
    bench: Callable[[argparse.Namespace], Any],
    show: Callable[[Any], None],
) -> int:
    """Run a bench; returns the exit code.

    Args:
        parser: gets ``--json`` and ``-v``.
        argv: the arguments.
        bench: what it measured: rows, or a dict, to which machine and command are added.
        show: prints that for people.
    """
    parser.add_argument("--json", action="store_true", help="for machines")

    def command(args: argparse.Namespace) -> None:
        result, machine = bench(args), Machine.here()
        plain: object
        if isinstance(result, dict):
            about = {"machine": machine, "command": shlex.join([*parser.prog.split(), *argv])}
            result = {**about, **result}
            plain = {**result, "machine": asdict(machine)}
        else:
            plain = [asdict(row) for row in result]
        print(json.dumps(plain, indent=1)) if args.json else show(result)

    return parser.run(argv, command)


@contextmanager
def open_sets(args: argparse.Namespace) -> Iterator[dict[str, ShardIndex]]:
    """Shard sets by kind, ``copy`` and ``layered``, of the same videos.

    Raises:
        UsageError: the folder or the shard set cannot be used.
    """
    if args.videos is not None and args.shards is not None:
        raise UsageError("--videos and --shards exclude each other")
    if args.shards is not None:
        index = open_shards(args.shards)
        if index.images:
            raise UsageError(f"{index.name}: holds images; this measures clips of videos")
        yield {str(index.manifest.encode["mode"]): index}
        return
    if args.videos is not None and not args.videos.is_dir():
        raise UsageError(f"{args.videos}: no such folder")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.videos or Path(temporary) / "videos"
        if args.videos is None:
            folder.mkdir()
            make_videos(folder, args.count)
        yield {
            kind: make_set(folder, Path(temporary) / kind, encoding, args.count)
            for kind, encoding in (("copy", None), ("layered", Encoding()))
        }


def make_set(folder: Path, out: Path, encoding: Encoding | None, count: int) -> ShardIndex:
    """Convert the first ``count`` files in ``folder``, two a shard."""
    scan = find_source("folder").scan("folder", folder, Options(unlabelled=True))
    settings = Settings("bench", samples_per_shard=2, limit=count, encoding=encoding)
    convert(make_plan(scan, settings), out, workers=len(os.sched_getaffinity(0)))
    return open_shards(out)


@dataclass(frozen=True)
class Machine:
    """What a table was measured on."""

    cpu: str
    cores: int
    versions: dict[str, str]

    @classmethod
    def here(cls) -> Machine:
        """This one."""
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        versions = {"Python": platform.python_version()}
        for name in LIBRARIES:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        cpu = models[0] if models else platform.machine()
        return cls(cpu, len(os.sched_getaffinity(0)), versions)

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.cpu}, {self.cores} cores; {versions}"
