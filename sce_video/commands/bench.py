"""``sce-video bench``: where the time of this machine goes, with the user's own set and config."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sce_video.arguments import Parser, whole
from sce_video.errors import UsageError
from sce_video.terminal import note, say
from sce_video.text import json_text
from sce_video.train import DEFAULT_CONFIG

if TYPE_CHECKING:
    from sce_video.config.tasks import AnyConfig

_STEP = "step"


def main(arguments: list[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} [step] [--config CONFIG] [--steps N] [--json] [-v] [key=value ...]",
        description="Take some steps of a run, and each of its stages by itself: read, decode, "
        "cut, augment, step. With 'step': what a step on the device is made of, on clips that it "
        "makes itself, so that no shard set is needed. One process; nothing is left behind.",
    )
    add = parser.add_argument
    add("--config", default=DEFAULT_CONFIG, help="a file, or a name below configs/")
    add(
        "overrides", nargs="*", metavar="key=value", help="e.g. data.workers=8, train.batch_size=64"
    )
    add("--steps", type=whole(1), default=10, metavar="N", help="that count (default 10)")
    add("--json", action="store_true", help="for programs")
    return parser.run(arguments, _bench, intermixed=True)


def _bench(args: Namespace) -> None:
    from sce_video.config.load import load_config
    from sce_video.engine.start import load_run

    overrides = [word for word in args.overrides if word != _STEP]
    by_step = len(overrides) < len(args.overrides)
    # Other weights take as long: those of a run that is not there yet are not missed.
    init = load_config(args.config, overrides).run.init_from
    if init and not Path(init.partition("#")[0]).exists() and ":" not in init:
        note(f"run.init_from={init}: not there; what it would bring is left out")
        overrides.append("run.init_from=null")
    config = load_run(args.config, overrides)
    result, table = (_step if by_step else _stages)(config, args.steps)
    say(*(json_text(result, indent=1) if args.json else table).splitlines())


def _stages(config: AnyConfig, steps: int) -> tuple[dict[str, Any], str]:
    from sce_video.stream.data import open_data
    from sce_video.stream.order import BatchPlan

    index, plan = open_data(config, 0, 1)  # what is wrong with it is said before torch is imported
    if index is None or not isinstance(plan, BatchPlan):
        raise UsageError(
            f"{config.data.shards}: tars without an index are not measured by stages; make a set "
            "of them: python -m sce_video.shard webdataset"
        )
    _sleep_at_barriers()
    from sce_video.bench.stages import measure, table

    result = measure(config, index, plan, steps)
    return result, table(result)


def _step(config: AnyConfig, steps: int) -> tuple[dict[str, Any], str]:
    _sleep_at_barriers()
    from sce_video.bench.step import measure_step, step_table

    result = measure_step(config, steps)
    return result, step_table(result)


def _sleep_at_barriers() -> None:
    """As training has it; read when torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
