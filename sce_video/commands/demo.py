"""``sce-video demo``: the whole path on made videos, for one seed or for several."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sce_video.arguments import Parser, whole
from sce_video.terminal import say


def main(arguments: list[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    parser = Parser(
        prog=prog,
        description="Make a labelled video set, shard it, pretrain with SCE without its labels, "
        "and compare retrieval with raw pixels and the untrained trunk.",
    )
    add = parser.add_argument
    add("--out", type=Path, help="folder (default runs/demo; study: runs/study)")
    add("--seed", type=int, default=0, help="of the videos and of the training")
    add("--study", type=whole(1), metavar="N", help="seeds 0..N-1, and a table")
    add("--dry-run", action="store_true", help="say what would be done")
    about = "of configs/demo.yaml, e.g. train.epochs=5"
    add("overrides", nargs="*", metavar="key=value", help=about)
    return parser.run(arguments, _demo, intermixed=True)


def _demo(args: Namespace) -> None:
    from sce_video import demo

    if args.study:
        demo.study(args.out or Path("runs/study"), args.study, args.overrides)
        return
    out = args.out or Path("runs/demo")
    config = demo.demo_config(out, args.seed, args.overrides)
    if args.dry_run:
        say(*demo.explain(out, config))
    else:
        demo.run(out, args.seed, config)
