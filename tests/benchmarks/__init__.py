"""``sce-video bench``: where the time goes on this machine, beside what other libraries need.

All of a table comes from one run, its rows taken in turn, so that other load on the machine meets
them alike.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from sce_video.arguments import Parser

BENCHES = {
    "shard": "the converter",
    "decode": "clips out of videos",
    "loader": "batches from worker processes",
    "augment": "augmentation on the CPU",
    "objective": "objectives against a queue",
    "step": "a training step beside its parts",
}
"""Name -> what it looks at. Each is a module of this room with a ``main`` of its own."""


def main(argv: Sequence[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    parser = Parser(prog=prog, description=__doc__, add_help=not argv or argv[0].startswith("-"))
    what = "; ".join(f"{name}: {about}" for name, about in BENCHES.items())
    parser.add_argument("what", choices=tuple(BENCHES), help=what)
    args, rest = parser.parse_known_args(argv)
    module = importlib.import_module(f"tests.benchmarks.{args.what}")
    code: int = module.main(rest, f"{prog} {args.what}")
    return code
