"""Every ZeRO stage ends where stage 0 ends; a checkpoint fits any stage and number of ranks."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sce_video.engine.optim.schedules import cosine_momentum
from tests.dist.pool import RankPool, pretrain, small_config
from tests.runs import final_state

LR = {"lars": 0.5, "sgd": 0.02, "adamw": 0.001}
CLIP = 0.05  # the gradient's norm is several times this


class Cell(NamedTuple):
    """One way to train."""

    stage: int
    ranks: int
    accumulate: int
    clip: bool
    overlap: bool
    offload: bool
    optimizer: str

    def reference(self) -> Cell:
        """The same with nothing sharded."""
        return self._replace(stage=0, overlap=False, offload=False)

    def config(self, folder: Path, **run: Any) -> Any:
        zero: dict[str, Any] = {"stage": self.stage}
        if self.stage:
            zero |= {"overlap_comm": self.overlap}
        if self.offload:
            zero |= {"offload_optimizer": {"device": "cpu"}}
        return small_config(
            folder,
            run=run,
            optim={
                "name": self.optimizer,
                "lr": LR[self.optimizer],
                "clip_norm": CLIP if self.clip else 0,
                "weight_decay": 1e-3,
            },
            train={"accumulate": self.accumulate},
            deepspeed={"zero_optimization": zero},
        )

    def __str__(self) -> str:
        flags = [n for n in ("clip", "overlap", "offload") if getattr(self, n)]
        return "-".join(
            (
                f"zero{self.stage}",
                f"{self.ranks}ranks",
                f"x{self.accumulate}",
                *flags,
                self.optimizer,
            )
        )


ALL = [
    Cell(*values)
    for values in itertools.product(
        (1, 2, 3), (1, 2, 3), (1, 2), (False, True), (False, True), (False, True), LR
    )
]


def pairwise(cells: list[Cell]) -> list[Cell]:
    """Few cells in which any two settings of any two fields meet; LARS is cut in every stage."""

    def pairs(cell: Cell) -> set[tuple[object, ...]]:
        return {(i, cell[i], j, cell[j]) for i, j in itertools.combinations(range(len(cell)), 2)}

    chosen = [
        Cell(1, 2, 1, False, False, False, "lars"),
        Cell(3, 2, 1, False, False, False, "lars"),
        Cell(2, 3, 2, False, True, True, "lars"),
        Cell(3, 3, 2, False, True, True, "lars"),
    ]
    missing = set().union(*map(pairs, cells)) - set().union(*map(pairs, chosen))
    while missing:  # greedily
        references = {cell.reference() for cell in chosen}
        best = max(cells, key=lambda c: (len(pairs(c) & missing), c.reference() in references))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


class Runs:
    """Runs by cell and number of steps, each made once."""

    def __init__(self, pool: RankPool, root: Path) -> None:
        self.pool, self.root = pool, root
        self._ready: set[Path] = set()

    def folder(self, cell: Cell, steps: int = 20) -> Path:
        path = self.root / f"{cell}-{steps}"
        if path not in self._ready:
            path.mkdir()
            self.pool.run(cell.ranks, pretrain, cell.config(path, max_steps=steps))
            self._ready.add(path)
        return path

    def resumed(self, folder: Path, cell: Cell, steps: int) -> dict[str, Tensor]:
        """The state after continuing a copy of a run as ``cell``."""
        copy = self.root / f"{folder.name}-then-{cell}-{steps}"
        if copy not in self._ready:
            shutil.copytree(folder, copy)
            self.pool.run(cell.ranks, pretrain, cell.config(copy, resume=True, max_steps=steps))
            self._ready.add(copy)
        return final_state(copy)


@pytest.fixture(scope="module")
def runs(pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(pool, tmp_path_factory.mktemp("zero"))


def mostly_slow(values: list[Any], quick: int) -> list[Any]:
    """The first ones by default, the others with the slow tests."""
    slow = [pytest.param(value, marks=pytest.mark.slow, id=str(value)) for value in values[quick:]]
    return [pytest.param(value, id=str(value)) for value in values[:quick]] + slow


PLACES = list(itertools.product((0, 1, 2, 3), (1, 2, 3)))  # stage, ranks
TWO = Cell(0, 2, 1, False, False, False, "lars")


@pytest.mark.parametrize("stage", mostly_slow([3, 1, 0, 2], quick=1))
def test_resume_is_bit_exact(stage: int, runs: Runs) -> None:
    resume_bit_exactly(TWO._replace(stage=stage), runs, stop=4)


@pytest.mark.soak
@pytest.mark.parametrize("stop", range(1, 11))
@pytest.mark.parametrize("optimizer", LR)
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_resume_is_bit_exact_wherever_it_stopped(
    stage: int, ranks: int, optimizer: str, stop: int, runs: Runs
) -> None:
    cell = Cell(stage, ranks, 1 + stop % 2, stop % 3 == 0, True, stage > 0, optimizer)
    resume_bit_exactly(cell, runs, stop)


def resume_bit_exactly(cell: Cell, runs: Runs, stop: int) -> None:
    """Ten steps after a stop are what they are without it, optimizer and BN statistics included."""
    whole = final_state(runs.folder(cell, stop + 10))
    resumed = runs.resumed(runs.folder(cell, stop), cell, stop + 10)
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


@pytest.mark.parametrize(
    "places",
    mostly_slow(
        [((1, 2), (3, 3)), ((3, 2), (0, 1)), ((2, 2), (1, 3)), ((0, 2), (2, 1)), ((3, 2), (3, 1))],
        quick=0,
    ),
)
def test_a_checkpoint_fits_other_stages_and_ranks(
    places: tuple[tuple[int, int], tuple[int, int]], runs: Runs, record_property: Any
) -> None:
    continue_elsewhere(*places, "lars", runs, record_property)


@pytest.mark.soak
@pytest.mark.parametrize("optimizer", ["lars", "sgd"])
@pytest.mark.parametrize("new", PLACES)
@pytest.mark.parametrize("old", PLACES)
def test_a_checkpoint_fits_any_stage_and_ranks(
    old: tuple[int, int],
    new: tuple[int, int],
    optimizer: str,
    runs: Runs,
    record_property: Any,
) -> None:
    continue_elsewhere(old, new, optimizer, runs, record_property)


def continue_elsewhere(
    old: tuple[int, int], new: tuple[int, int], optimizer: str, runs: Runs, record_property: Any
) -> None:
    """Ten further steps on another stage and number of ranks end where they would have ended."""
    before, after = (
        TWO._replace(stage=stage, ranks=ranks, optimizer=optimizer) for stage, ranks in (old, new)
    )
    expected = final_state(runs.folder(before))
    moved = runs.resumed(runs.folder(before, 10), after, 20)
    difference, where = worst(moved, expected)
    record_property("difference", difference)
    assert difference < 1e-6, where


def noisy_predictor(module: Any) -> None:
    """Training that draws from torch's global generator."""

    def add_noise(predictor: object, inputs: object, output: Tensor) -> Tensor:
        return output + 0.1 * torch.randn_like(output)

    module.predictor.register_forward_hook(add_noise)


@pytest.mark.slow
def test_what_torch_draws_is_the_same_after_a_resume(runs: Runs, tmp_path: Path) -> None:
    cell = TWO._replace(stage=1)
    for folder, stops in ((tmp_path / "whole", [3]), (tmp_path / "parts", [2, 3])):
        folder.mkdir()
        for stop in stops:
            config = cell.config(folder, max_steps=stop, resume=stop != stops[0])
            runs.pool.run(2, pretrain, config, noisy_predictor)
    whole, parts = final_state(tmp_path / "whole"), final_state(tmp_path / "parts")
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    without = final_state(runs.folder(cell, 3))
    assert not torch.equal(whole["objective.queue.keys"], without["objective.queue.keys"])


def misplaced(config: Any) -> None:
    """Training on partitions that do not lie where the layout is read."""
    from sce_video.engine import ds_config, zero_layout

    real = zero_layout.zero_layout

    def reversed_layout(engine: Any) -> Any:
        zero = engine.optimizer
        three = config.deepspeed.zero_optimization.stage == 3
        (zero.fp16_groups if three else zero.round_robin_bit16_groups)[0].reverse()
        return real(engine)

    patch.object(ds_config, "zero_layout", reversed_layout).start()
    pretrain(config)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_layout_that_does_not_hold_the_weights_is_refused(
    stage: int, runs: Runs, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=r"SceVideoError: ZeRO's partition"):
        runs.pool.run(2, misplaced, TWO._replace(stage=stage).config(tmp_path))


def count_all_reduces(config: Any) -> None:
    """Training that writes down how often LARS reduces."""
    from sce_video.engine.optim import lars

    calls = []

    def all_reduce(tensor: Tensor) -> None:
        calls.append(tensor.numel())
        torch.distributed.all_reduce(tensor)

    patch.object(lars, "dist", SimpleNamespace(all_reduce=all_reduce)).start()
    pretrain(config)
    (Path(config.run.dir) / "calls.json").write_text(json.dumps(calls))


@pytest.mark.parametrize("stage", mostly_slow([3, 1, 2], quick=0))
def test_lars_reduces_once_a_step(stage: int, runs: Runs, tmp_path: Path) -> None:
    runs.pool.run(2, count_all_reduces, TWO._replace(stage=stage).config(tmp_path, max_steps=3))
    state = final_state(tmp_path)
    trained = [name for name in state if name.endswith("/momentum_buffer")]
    assert json.loads((tmp_path / "calls.json").read_text()) == [2 * len(trained)] * 3


def check_autocast(module: Any) -> None:
    """Convolutions and linear layers of both branches must see autocast, under the engine."""
    from torch import nn

    layers = {m for m in module.modules() if isinstance(m, nn.Conv3d | nn.Linear)}

    def check(layer: nn.Module, inputs: object, output: Tensor) -> None:
        if layer in layers and output.dtype is not torch.bfloat16:  # not a copy that is tried alone
            raise TypeError(f"{layer} gave {output.dtype}")

    for layer in layers:
        layer.register_forward_hook(check)


@pytest.mark.parametrize("stage", mostly_slow([3, 0, 1, 2], quick=0))
def test_autocast_is_on_and_the_momentum_encoder_moves(
    stage: int, runs: Runs, tmp_path: Path
) -> None:
    """At momentum 0.999 an average kept in bf16 would stand still."""
    states = []
    for steps in (1, 2):  # the first step has a learning rate of 0: both branches are equal
        folder = tmp_path / str(steps)
        folder.mkdir()
        config = TWO._replace(stage=stage).config(folder, max_steps=steps)
        model = config.model.model_copy(update={"momentum": 0.999})
        train = config.train.model_copy(update={"precision": "bf16"})
        config = config.model_copy(update={"model": model, "train": train})
        runs.pool.run(2, pretrain, config, check_autocast)
        states.append(final_state(folder))
    first, second = states
    m = cosine_momentum(1, 20, 0.999)
    averages = [n for n in first if n.startswith("momentum.") and n.endswith(("weight", "bias"))]
    for name in averages:
        before, online = first[name], name.replace("momentum.", "online.", 1)
        assert torch.equal(before, first[online])
        assert not torch.equal(second[name], before), name
        torch.testing.assert_close(second[name], before.lerp(second[online], 1 - m))


def worst(a: dict[str, Tensor], b: dict[str, Tensor]) -> tuple[float, str]:
    """The largest ``|x - y| / |y|`` over weights, momentum encoder and queue, and where."""
    assert a.keys() == b.keys()
    names = [n for n in a if "/" not in n and "running" not in n and "tracked" not in n]
    return max((float((a[n] - b[n]).double().norm() / b[n].double().norm()), n) for n in names)


def compare(cell: Cell, runs: Runs, record_property: Any) -> None:
    ours, reference = (final_state(runs.folder(c)) for c in (cell, cell.reference()))
    encoder = load_file(runs.folder(cell) / "encoder.safetensors")
    for name, tensor in encoder.items():
        assert torch.equal(tensor, ours[f"online.trunk.{name}"]), name
    difference, where = worst(ours, reference)
    record_property("difference", difference)
    # AdamW divides by the root of what it has seen: near-zero gradients are all rounding.
    assert difference < (1e-5 if cell.optimizer == "adamw" else 1e-6), where


@pytest.mark.parametrize("cell", mostly_slow(pairwise(ALL), quick=1))
def test_a_stage_ends_where_stage_0_ends(cell: Cell, runs: Runs, record_property: Any) -> None:
    compare(cell, runs, record_property)


@pytest.mark.slow
def test_the_clip_norm_is_one_that_clips(runs: Runs) -> None:
    free = Cell(0, 1, 1, False, False, False, "sgd")
    clipped = free._replace(clip=True)
    assert worst(*(final_state(runs.folder(cell)) for cell in (clipped, free)))[0] > 0.01


@pytest.mark.soak
@pytest.mark.parametrize("cell", ALL, ids=str)
def test_all_cells_end_where_stage_0_ends(cell: Cell, runs: Runs, record_property: Any) -> None:
    compare(cell, runs, record_property)


def spoil(module: Any) -> None:
    """Let rank 1's third gradient of one weight be infinite; the loss knows nothing of it."""
    weight, calls = next(module.online.trunk.parameters()), itertools.count(1)

    def infinite(gradient: Tensor) -> Tensor:
        return gradient + torch.inf if next(calls) == 3 else gradient

    if os.environ["RANK"] == "1":
        weight.register_hook(infinite)


@pytest.mark.parametrize("stage", mostly_slow([0, 1, 2, 3], quick=1))
def test_an_infinite_gradient_ends_the_run(stage: int, pool: RankPool, tmp_path: Path) -> None:
    cell = Cell(stage, 2, 1, False, False, False, "lars")
    with pytest.raises(AssertionError, match=r"gradient of step 3 is not fin"):
        pool.run(2, pretrain, cell.config(tmp_path), spoil)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "cell",
    [
        Cell(stage, 2, 2, True, False, offload, "sgd")
        for stage in (0, 1, 2, 3)
        for offload in (False, True)[: 1 + bool(stage)]
    ],
    ids=str,
)
@pytest.mark.slow
def test_the_gradient_s_norm_is_the_same_in_all_stages(
    cell: Cell, runs: Runs, record_property: Any
) -> None:
    """Before clipping, as it is logged."""
    norms = []
    for each in (cell.reference(), cell):
        rows = (runs.folder(each, 4) / "metrics.jsonl").read_text().splitlines()
        norms.append([json.loads(row)["train/grad_norm"] for row in rows])
    assert min(norms[0]) > CLIP
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
