"""``sce-video report``: a page about runs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sce_video.arguments import Parser
from sce_video.terminal import say


def main(arguments: list[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    about = "Write a page about a run, or several side by side: curves, tables, gallery."
    parser = Parser(prog=prog, description=about)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--out", type=Path, help="file (default: RUN/report.html; of several: report.html here)"
    )
    parser.add_argument(
        "--shards",
        action="append",
        default=[],
        metavar="SET",
        help="folder or URL of a set whose videos are shown, where it lies elsewhere than the runs "
        "say, or not on this machine; may be given several times",
    )
    return parser.run(arguments, _report)


def _report(args: Namespace) -> None:
    from sce_video.report import write_report

    say(write_report(args.runs, args.out, args.shards))
