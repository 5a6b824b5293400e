"""A training step beside the bare sum of its parts, on the CPU.

The step is the trainer's own, engine, logging and one worker process included, fed with clips of
videos that it makes itself. Whenever the trainer asks for a batch, the one before goes through
copies of its networks part by part, in plain torch. CPU time of this process, one rank, ZeRO-1,
every step logged; each step is compared with the parts that follow it.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sce_video.arguments import Parser, whole
from sce_video.augment.apply import Augmenter
from sce_video.config.recipes import RECIPES
from sce_video.config.tasks import PretrainConfig
from sce_video.config.trunks import TRUNKS
from sce_video.engine.loop import Trainer
from sce_video.engine.optim.build import build_optimizer
from sce_video.engine.precision import check_bf16
from sce_video.engine.pretrain import PretrainTask
from sce_video.engine.runtime import Runtime, start_runtime, stop_runtime
from sce_video.engine.track import METRICS_NAME
from sce_video.errors import UsageError
from sce_video.model.momentum import update_momentum
from sce_video.objectives import sce_loss
from sce_video.shardset.index import ShardIndex
from sce_video.stream.data import open_data
from sce_video.stream.loader import ClipBatch
from sce_video.stream.order import BatchPlan
from tests.benchmarks.sets import make_set, run_bench
from tests.benchmarks.timing import at_least, at_most, print_goals, print_table
from tests.benchmarks.videos import make_videos

STEP, BARE, BF16 = "training step", "bare parts", "bare parts, bf16"
MOST_OVERHEAD = 0.05  # of the bare parts
LEAST_BF16 = 1.6  # times fp32: resnet18, where the processor multiplies bf16
_ALONE = 3  # steps with no parts between them: how long the trainer itself waits for data
_SECONDS = 3  # a video
_COLUMNS = {"cpu_ms": ".1f", "noise": ".0%", "share": ".1%"}


class Bare:
    """SCE's step in plain torch, on copies of a task's networks."""

    def __init__(self, task: PretrainTask, dtype: torch.dtype | None) -> None:
        """``dtype``: of autocast; None = fp32."""
        self.net, config = copy.deepcopy(task.module), task.config
        self._trained = nn.ModuleList([self.net.online, self.net.predictor])
        self._optimizer = build_optimizer(self._trained, config.optim)
        self._augment = Augmenter(RECIPES[config.augment.recipe], 0, torch.device("cpu"))
        self._m, self._dtype = config.model.momentum, dtype
        self.spent: list[dict[str, float]] = []  # CPU seconds of each part, a step

    def step(self, batch: ClipBatch) -> None:
        """Take one step, the clock running."""
        marks = {"": time.process_time()}

        def done(part: str) -> None:
            marks[part] = time.process_time()

        net: Any = self.net
        views = self._augment(batch.views, batch.epochs, batch.rows)
        done("augmentation")
        with torch.autocast("cpu", self._dtype, enabled=self._dtype is not None):
            with torch.no_grad():
                k0, k1 = (_unit(net.momentum(view)) for view in views)
            done("momentum branch, forward")
            features = [net.online.trunk(view) for view in views]
            done("trunk, forward")
            q0, q1 = (_unit(net.predictor(net.online.projector(x))) for x in features)
            done("heads, forward")
        queue = net.objective.queue
        loss = (sce_loss(q1, k0, queue.keys)[0] + sce_loss(q0, k1, queue.keys)[0]) / 2
        done("loss")
        loss.backward()  # type: ignore[no-untyped-call]
        done("backward")
        self._optimizer.step()
        self._optimizer.zero_grad()
        done("optimizer")
        update_momentum(net.momentum, net.online, self._m)
        queue.enqueue(torch.cat([k0, k1]))
        done("moving average and queue")
        self.spent.append(dict(zip(list(marks)[1:], np.diff(list(marks.values())), strict=True)))


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=1)


class _Interleaved(PretrainTask):
    """Pretraining in whose pauses, between a step's batch and the next, the bare parts run."""

    def __init__(
        self, config: PretrainConfig, index: ShardIndex | None, plan: BatchPlan, runtime: Runtime
    ) -> None:
        super().__init__(config, index, plan, runtime)
        self.ways = {BARE: Bare(self, None)}
        self.missing = {}
        shape = config.shape
        try:
            check_bf16(self.trunk(), torch.zeros(2, 3, shape.frames, shape.size, shape.size))
            self.ways[BF16] = Bare(self, torch.bfloat16)
        except UsageError as error:
            self.missing[BF16] = str(error)
        self.steps: list[float] = []  # CPU seconds from batch to batch

    def batches(self, consumed: int) -> Iterator[ClipBatch]:
        """Pass on the loader's, the trainer's clock stopped meanwhile."""
        began = 0.0
        for number, batch in enumerate(super().batches(consumed)):
            if number > 1 + _ALONE:
                self.steps.append(time.process_time() - began)
            if number == 0 or number > 1 + _ALONE:
                for way in self.ways.values():
                    way.step(batch)
            began = time.process_time()
            yield batch


def step_config(args: Any, folder: Path) -> PretrainConfig:
    """The published recipe on made shards in ``folder``, an epoch a step."""
    steps = 2 + _ALONE + args.rounds
    sections = {
        "run": {"dir": str(folder / "run")},
        "data": {"shards": str(folder / "shards"), "workers": 1},
        "clip": {"frames": args.frames, "size": args.size},
        "model": {"trunk": args.trunk, "width": args.width},
        "train": {
            "epochs": steps,
            "batch_size": args.videos,
            "precision": "fp32",
            "save_every": steps,
        },
        "track": {"every": 1},
    }
    return PretrainConfig.model_validate(sections)


def bench_step(config: PretrainConfig) -> dict[str, Any]:
    """All tables, as JSON values."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a GPU's time is not the CPU's
    index, plan = open_data(config, 0, 1)
    runtime = start_runtime(config.data.workers)
    try:
        task = _Interleaved(config, index, cast(BatchPlan, plan), runtime)
        Trainer(task).run()
    finally:
        stop_runtime()
    lines = (Path(config.run.dir) / METRICS_NAME).read_text().splitlines()
    alone = [json.loads(line) for line in lines][1 : 1 + _ALONE]
    wait = sum(row["time/data"] for row in alone) / sum(row["time/step"] for row in alone)
    made = {name: way.spent[1:] for name, way in task.ways.items()}  # the first was to warm up
    sums = {name: np.array([sum(parts.values()) for parts in way]) for name, way in made.items()}
    bare, steps = sums[BARE], np.array(task.steps)
    rows = [_row(name, seconds, bare) for name, seconds in {STEP: steps, **sums}.items()]
    for part in made[BARE][0]:
        rows.append(_row(f"  {part}", np.array([parts[part] for parts in made[BARE]]), bare))
    overhead = float(np.median(steps / bare)) - 1
    name = "overhead of engine, loader and logging, of the bare parts"
    targets = [at_most(name, overhead, MOST_OVERHEAD)]
    if BF16 in sums and config.model.trunk == "resnet18" and _multiplies_bf16():
        value = float(np.median(bare / sums[BF16]))
        targets.append(at_least("bf16: times as fast as fp32", value, LEAST_BF16))
    result = {"threads": torch.get_num_threads(), "rows": rows, "data_wait": wait}
    return {**result, "targets": targets, "missing": task.missing}


def _row(name: str, seconds: Any, bare: Any) -> dict[str, Any]:
    """Medians; noise is the middle half of what was measured, of the median."""
    low, middle, high = np.percentile(seconds, (25, 50, 75))
    share = float(np.median(seconds / bare))
    noise = float((high - low) / middle)
    return {"name": name, "cpu_ms": float(1000 * middle), "noise": noise, "share": share}


def _multiplies_bf16() -> bool:
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text().split()


def _print(result: Mapping[str, Any]) -> None:
    print(f"{result['machine']}\n{result['command']}\n{result['threads']} thread(s)\n")
    print_table("", _COLUMNS, result["rows"])
    print(f"\nof a step's time the trainer waits for data: {result['data_wait']:.1%}")
    print_goals(result, least=".2f", most=".1%")


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    parser = Parser(prog="python -m tests.benchmarks.step", description=__doc__)
    parser.add_argument("--trunk", choices=list(TRUNKS), default="r2plus1d_18", help="r2plus1d_18")
    parser.add_argument("--width", type=whole(1), default=64, help="of the trunk (default 64)")
    parser.add_argument("--frames", type=whole(1), default=8, help="of a clip (default 8)")
    parser.add_argument("--size", type=whole(16), default=112, help="of a view (default 112)")
    parser.add_argument("--videos", type=whole(2), default=8, help="a step (default 8)")
    parser.add_argument("--rounds", type=whole(1), default=10, help="pairs (default 10)")

    def bench(args: argparse.Namespace) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name in ("videos", "run"):
                (folder / name).mkdir()
            make_videos(folder / "videos", args.videos, _SECONDS)
            make_set(folder / "videos", folder / "shards", None, args.videos)
            return bench_step(step_config(args, folder))

    return run_bench(parser, argv, bench, _print)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
