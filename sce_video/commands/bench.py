"""``sce-video bench``: where the time of this machine goes, with the user's own set and config."""

from __future__ import annotations

import json
import os
from argparse import Namespace

from sce_video.arguments import Parser, whole
from sce_video.errors import UsageError
from sce_video.train import DEFAULT_CONFIG


def main(arguments: list[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    parser = Parser(
        prog=prog,
        description="Take some steps of a run, and each of its stages by itself: read, decode, "
        "cut, augment, step. One process; nothing is left behind.",
    )
    add = parser.add_argument
    add("--config", default=DEFAULT_CONFIG, help="a file, or a name below configs/")
    add("overrides", nargs="*", metavar="key=value", help="e.g. data.workers=8")
    add("--steps", type=whole(1), default=10, metavar="N", help="that count (default 10)")
    add("--json", action="store_true", help="for programs")
    return parser.run(arguments, _bench, intermixed=True)


def _bench(args: Namespace) -> None:
    from sce_video.config.load import load_config
    from sce_video.stream.data import open_data
    from sce_video.stream.order import BatchPlan

    config = load_config(args.config, args.overrides)
    index, plan = open_data(config, 0, 1)  # what is wrong with it is said before torch is imported
    if index is None or not isinstance(plan, BatchPlan):
        raise UsageError(
            f"{config.data.shards}: tars without an index are not measured by stages; make a set "
            "of them: python -m sce_video.shard webdataset"
        )
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as training has it
    from sce_video.bench import measure, table

    result = measure(config, index, plan, args.steps)
    print(json.dumps(result, indent=1) if args.json else table(result))
