"""Steps of many GPUs, on paper: what one GPU showed, traffic of the plan, and assumptions.

A step is the work of one GPU, then what many add: gradients and weights over the network, BN's
all-reduces, the gathering of keys, and waiting for the slowest rank, which is simulated. Nothing
overlaps, as in the engine at its defaults. ``--write`` remakes the tables of the engine's page.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm

from sce_video.arguments import Parser
from sce_video.config.load import load_pretraining
from sce_video.engine.cost import cost
from sce_video.engine.pretrain import build_online, build_predictor
from sce_video.stream.data import planned_data
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "sce_video" / "engine" / "README.md"
BEGIN, END = "<!-- scale -->\n", "<!-- /scale -->"

STEPS = {"sce_k400_r2plus1d_18": 455.0, "sce_k400_r3d_50_8frames": 540.0}
"""Config -> ms of a step as trained: measured on one NVIDIA H200, bf16, two views of 64 videos.

BN was local. With the kernels of torch's SyncBatchNorm a trunk took as long (260 and 293 ms, local
260 and 297), so that over ranks its all-reduces alone are added.
"""
GPUS = (8, 64, 512)
NODE = 8  # GPUs that NVLink joins
VIDEOS = 64  # a GPU and step

# Assumptions: nothing of this was measured.
IN_NODE, NETWORK = 200e9, 25e9  # bytes/s that a GPU sends: NVLink; 200 Gb/s a GPU
LATENCY = (50e-6, 100e-6)  # s of a small all-reduce in a node, and over 64 nodes
NOISE = 0.01  # of a rank's time: delays that come on top, on average, of each piece of a step
GROUP = 8  # ranks whose BN statistics are shared, where that is less than all
LARGEST = 16_384  # videos a step up to which LARS's scaled rate is known to work

DECODED = {1: 170.0, 8: 298.0}
"""``clip.grid`` -> clips of 8 frames a second and core from layered shards, measured."""
LONG = 187 / 232  # rate of clips of 16 frames, of that of 8, at any start: measured


class Row(NamedTuple):
    """A step of ``gpus`` GPUs; times in ms."""

    gpus: int
    work: float  # of one GPU alone
    gradients: float  # and weights, at ZeRO-1
    bn: float  # latency of its all-reduces
    keys: float  # that all ranks gather
    waiting: float  # for the slowest
    lives: float  # steps that a key stays in the queue
    cores: dict[int, float]  # of a GPU, that make its clips, by clip.grid

    @property
    def step(self) -> float:
        """All of it."""
        return self.work + self.gradients + self.bn + self.keys + self.waiting

    @property
    def batch(self) -> int:
        """Videos."""
        return VIDEOS * self.gpus


def simulate(ranks: int, group: int, pieces: int, *, steps: int = 100, seed: int = 0) -> float:
    """Mean length of a step, in steps without noise.

    A step has ``pieces`` of equal length; each takes a rank longer by an exponential delay, of
    :data:`NOISE` of it on average. Ranks of a ``group`` wait for each other after every piece (BN),
    all of them at the end of the step (gradients).

    Args:
        ranks: of the run.
        group: ranks that share BN; 1 = nobody waits before the end.
        pieces: a step.
        steps: that are simulated.
        seed: of the delays.
    """
    generator, total = np.random.default_rng(seed), 0.0
    for _ in range(steps):
        delays = generator.exponential(NOISE / pieces, (pieces, ranks // group, group))
        total += 1 + delays.max(-1).sum(0).max()
    return total / steps


def latency(ranks: int) -> float:
    """Seconds of a small all-reduce: those of a node, and as much more for each doubling."""
    near, far = LATENCY
    return near + (far - near) * math.log2(max(ranks / NODE, 1)) / math.log2(64)


@cache
def added(name: str) -> tuple[float, float, int]:
    """Of a config: bytes that a rank exchanges, and BN's all-reduces.

    The first are those of gradients and weights, of which a rank of n sends (n - 1) / n, and those
    of its own keys, which it sends n - 1 times. Each layer of BN has an all-reduce of each view: of
    the online branch forward and backward, of the keys.
    """
    config = load_pretraining(f"pretrain/{name}.yaml", [f"train.batch_size={2 * VIDEOS}"])
    sent = cost(config, planned_data(config, None, 2)[0], bf16=True, cuda=True).sent
    with FakeTensorMode():
        online, predictor = _layers(build_online(config)), _layers(build_predictor(config))
    pieces = config.views * (2 * (online + predictor) + online)
    return 2 * sent["gradients and weights"], sent["embeddings"], pieces


def _layers(module: nn.Module) -> int:
    return sum(isinstance(m, _BatchNorm) for m in module.modules())


def row(name: str, gpus: int, group: int) -> Row:
    """A step of a config on ``gpus`` GPUs, BN over groups of ``group`` of them."""
    config, work = load_pretraining(f"pretrain/{name}.yaml"), STEPS[name]
    gradients, keys, pieces = added(name)
    speed, clip = IN_NODE if gpus <= NODE else NETWORK, config.shape
    queue: int = config.objective.queue  # type: ignore[union-attr,assignment]
    found = Row(
        gpus,
        work,
        gradients=1000 * gradients * (gpus - 1) / gpus / speed,
        bn=1000 * pieces * latency(group),
        keys=1000 * keys * (gpus - 1) / speed,
        waiting=work * (simulate(gpus, group, pieces) - 1),
        lives=queue / (config.objective.queued * VIDEOS * gpus),
        cores={},
    )
    clips = config.views * VIDEOS / found.step * 1000  # a second
    apart = clip.seconds * 25 / clip.frames  # frames
    rates = {grid: rate * (1 if clip.frames == 8 else LONG) for grid, rate in DECODED.items()}
    return found._replace(cores={g: clips / rate for g, rate in rates.items() if apart % g == 0})


def breaks(row: Row) -> tuple[str, str]:
    """What breaks first, and the setting that mends it."""
    if row.batch > LARGEST:
        return (
            f"the method: no rate is known for {row.batch:,} videos; a key lives {_lives(row)}",
            f"`train.batch_size={LARGEST}` at most; `objective.queue` several times a step's keys",
        )
    if row.gpus <= GROUP:
        return f"nothing: {row.step / row.work - 1:.0%} are added", "--"
    ms = {"BN": row.bn + row.waiting, "gradients": row.gradients, "keys": row.keys}
    most = max(ms, key=ms.__getitem__)
    what, mend = {
        "BN": ("BN, its all-reduces and waiting at each", f"`model.bn_group={GROUP}`"),
        "gradients": ("gradients and weights", "more videos a GPU, or `train.accumulate`"),
        "keys": ("gathered keys", "more videos a GPU, or a faster network"),
    }[most]
    return f"{what}: {ms[most]:.0f} ms", mend


def _lives(row: Row) -> str:
    return "1 step" if row.lives == 1 else f"{row.lives:.0f} steps"


def tables() -> str:
    """Both, as Markdown."""
    times = ["| | GPUs | work | gradients | BN | keys | waiting | step | BN in groups of 8 |"]
    times.append("|---|---|---|---|---|---|---|---|---|")
    needs = ["| | GPUs | videos a step | a key lives | loader cores a GPU | breaks first | mend |"]
    needs.append("|---|---|---|---|---|---|---|")
    for name in STEPS:
        for gpus in GPUS:
            all_ranks, groups = row(name, gpus, gpus), row(name, gpus, GROUP)
            parts = (all_ranks.work, all_ranks.gradients, all_ranks.bn, all_ranks.keys)
            cells = [f"{ms:,.0f}" for ms in (*parts, all_ranks.waiting)]
            cells += [f"{r.step:,.0f} ({r.work / r.step:.0%})" for r in (all_ranks, groups)]
            times.append(f"| `{name}` | {gpus} | {' | '.join(cells)} |")
            cores = ", ".join(f"{n:.1f} (grid {grid})" for grid, n in all_ranks.cores.items())
            cells = [f"{all_ranks.batch:,}", _lives(all_ranks), cores]
            needs.append(f"| `{name}` | {gpus} | {' | '.join([*cells, *breaks(all_ranks)])} |")
    return "\n".join([*times, "", *needs]) + "\n"


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    parser = Parser(prog="python -m tests.benchmarks.scale", description=__doc__)
    parser.add_argument("--write", action="store_true", help="remake the page's tables")

    def command(args: Any) -> None:
        made = tables()
        if args.write:
            before, rest = PAGE.read_text().split(BEGIN)
            PAGE.write_text(before + BEGIN + made + rest[rest.index(END) :])
        print(made, end="")

    return parser.run(argv, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
