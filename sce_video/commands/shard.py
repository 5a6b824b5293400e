"""``sce-video shard``: raw data set -> WebDataset shards; ``verify`` and ``info``."""

from __future__ import annotations

import os
import time
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sce_video.arguments import Parser, between, is_verbose, whole
from sce_video.errors import EXIT_OK, Interrupted, UsageError, run_command
from sce_video.shard.sources import SOURCES, Options, find_source
from sce_video.terminal import note

if TYPE_CHECKING:
    from sce_video.video.encode import Encoding

_RAW_VARIABLE = "SCE_VIDEO_RAW"
_MOST_WORKERS = 1024


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    verb = arguments[0] if arguments else ""
    if verb in ("verify", "info"):
        return _inspect(verb, arguments[1:], prog)

    def command() -> int:
        if verb and not verb.startswith("-"):
            find_source(verb)  # a wrong name is told before wrong flags
        return _parser(prog).run(arguments, partial(_convert, prog=prog))

    return run_command(command, verbose=is_verbose(arguments))


def _parser(prog: str) -> Parser:
    known = "\n".join(f"  {name:<12} {source.about}" for name, source in SOURCES.items())
    parser = Parser(
        prog=prog,
        description="Turn a raw data set into WebDataset shards; every file is decoded once.",
        epilog=f"data sets:\n{known}\n\nfinished sets:\n"
        f"  {prog} verify DIR   check every byte against the manifest; --decode decodes, too\n"
        f"  {prog} info DIR     what a set holds; --json for programs",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", metavar="DATASET", help="one of the list below")
    parser.add_argument(
        "--root", type=Path, help=f"raw data (default ${_RAW_VARIABLE}/DATASET, else raw/DATASET)"
    )
    parser.add_argument("--out", type=Path, help="output folder (default shards/DATASET)")
    parser.add_argument(
        "--split", nargs="+", default=[], help="splits to take (default: all present)"
    )
    parser.add_argument("--csv", type=Path, help="folder: a list path,label[,split] with a header")
    parser.add_argument(
        "--list",
        nargs="+",
        default=[],
        metavar="FILE",
        help="folder: a list of lines 'path label', label a number; of splits: train=FILE val=FILE",
    )
    parser.add_argument("--unlabelled", action="store_true", help="folder: any files, no labels")
    parser.add_argument("--classes", type=Path, help="kinetics: the only classes, one name a line")
    parser.add_argument(
        "--encode",
        choices=("copy", "layered"),
        default="copy",
        help="keep every byte (default), or transcode for fast random clips",
    )
    parser.add_argument("--short-side", type=whole(1), help="layered: pixels at most (256)")
    parser.add_argument(
        "--quality", choices=("high", "fast"), help="layered: medium crf 23 (default), veryfast 21"
    )
    parser.add_argument(
        "--workers", type=whole(1, _MOST_WORKERS), help="decoding processes (default: one a core)"
    )
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="where they run; ray: the cluster of $RAY_ADDRESS, which must see the raw data under"
        " the same path, else one on this machine",
    )
    parser.add_argument("--limit", type=whole(1), help="take only N samples, mixed over classes")
    parser.add_argument(
        "--max-rejects",
        type=between(0, 1),
        default=0.05,
        help="fraction of unreadable files above which it fails (default 0.05)",
    )
    parser.add_argument("--overwrite", action="store_true", help="delete the set in --out first")
    parser.add_argument("--dry-run", action="store_true", help="show the plan, write nothing")
    return parser


def _inspect(verb: str, arguments: Sequence[str], prog: str) -> int:
    parser = Parser(prog=f"{prog} {verb}")
    parser.add_argument("folder", metavar="DIR", type=Path)
    if verb == "verify":
        parser.add_argument("--decode", action="store_true", help="decode every media file, too")
        parser.add_argument(
            "--workers", type=whole(1, _MOST_WORKERS), help="of --decode (default: one a core)"
        )
        return parser.run(arguments, _verify)
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser.run(arguments, _info)


def _verify(args: Namespace) -> int:
    from sce_video.shard.verify import verify

    workers = args.workers or len(os.sched_getaffinity(0))
    return verify(args.folder, decode=args.decode, workers=workers)


def _info(args: Namespace) -> None:
    from sce_video.shard.show import print_set

    print_set(args.folder, as_json=args.json)


def _root(args: Namespace, prog: str) -> Path:
    """The raw folder.

    Raises:
        UsageError: it does not exist.
    """
    name: str = args.dataset
    root: Path = args.root or Path(os.environ.get(_RAW_VARIABLE) or "raw") / name
    if root.is_dir():
        return root
    if name == "demo" and args.dry_run:
        raise UsageError(f"{root}: its videos are made on first use; run without --dry-run")
    if name == "demo" and not root.exists():
        return root  # made on first use, by its source
    what = "not a folder" if root.exists() else "no such folder"
    raise UsageError(f"{root}: {what}; give the raw data: {prog} {name} --root RAW")


def _encoding(args: Namespace) -> Encoding | None:
    """The transcoding that the arguments ask for.

    Raises:
        UsageError: its options without ``--encode layered``.
    """
    from sce_video.video.encode import Encoding

    asked = {"short_side": args.short_side, "quality": args.quality}
    given = {name: value for name, value in asked.items() if value is not None}
    if args.encode == "layered":
        return Encoding(**given)
    if given:
        raise UsageError(f"--{next(iter(given)).replace('_', '-')} needs --encode layered")
    return None


def _convert(args: Namespace, prog: str) -> int:
    source = find_source(args.dataset)
    root = _root(args, prog)
    folder = args.out or Path("shards") / args.dataset
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:  # which a config could not name
        raise UsageError(
            f"{folder}: not UTF-8; give another --out, or set LC_ALL=C.UTF-8"
        ) from error
    options = Options(
        splits=tuple(args.split),
        csv=args.csv,
        lists=tuple(args.list),
        unlabelled=args.unlabelled,
        classes=args.classes,
        out=folder,
    )
    from sce_video.shard import show
    from sce_video.shard.plan import Settings, make_plan
    from sce_video.shard.run import Signals, run

    settings = Settings(args.dataset, limit=args.limit, encoding=_encoding(args))
    with Signals():
        scan = source.scan(args.dataset, root, options)
        plan = make_plan(scan, settings)
    note(*(f"{root}: {text}" for text in scan.notes))
    if args.dry_run:
        show.print_plan(plan, folder)
        return EXIT_OK
    if not plan.samples:
        raise UsageError(f"{root}: not one file of the data set is there")
    show.warn_of_space(plan, folder)
    try:
        began = time.monotonic()
        worked = run(
            plan,
            folder,
            executor=args.executor,
            workers=args.workers,
            max_rejects=args.max_rejects,
            overwrite=args.overwrite,
        )
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted; run the same command again to continue {folder}"
        ) from error
    show.print_summary(folder, worked=worked, seconds=time.monotonic() - began)
    return EXIT_OK
