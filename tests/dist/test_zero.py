"""Every ZeRO stage ends where stage 0 ends; a checkpoint fits any stage and number of ranks."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.dist.pool import RankPool, pretrain, small_config
from tests.runs import final_state

LR = {"lars": 0.5, "sgd": 0.05, "adamw": 0.001}
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
            [f"zero{self.stage}", f"{self.ranks}ranks", f"x{self.accumulate}", *flags]
            + [self.optimizer]
        )


ALL = [
    Cell(*values)
    for values in itertools.product(
        (1, 2, 3), (1, 2, 3), (1, 2), (False, True), (False, True), (False, True), LR
    )
]


def pairwise(cells: list[Cell]) -> list[Cell]:
    """Few cells in which any two settings of any two fields meet, and LARS is cut in every stage."""

    def pairs(cell: Cell) -> set[tuple[object, ...]]:
        return {(i, cell[i], j, cell[j]) for i, j in itertools.combinations(range(len(cell)), 2)}

    chosen = [
        Cell(1, 2, 1, False, False, False, "lars"),
        Cell(2, 3, 2, False, True, True, "lars"),
        Cell(3, 2, 1, False, False, False, "lars"),
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
    """Runs of 20 steps by cell, each made once."""

    def __init__(self, pool: RankPool, root: Path) -> None:
        self.pool, self.root = pool, root
        self._ready: set[Path] = set()

    def folder(self, cell: Cell, **run: Any) -> Path:
        path = self.root / "-".join([str(cell), *(f"{k}{v}" for k, v in run.items())])
        if path not in self._ready:
            self.pool.run(cell.ranks, pretrain, cell.config(path, **run))
            self._ready.add(path)
        return path

    def resumed(self, folder: Path, cell: Cell, max_steps: int) -> dict[str, Tensor]:
        """The state after continuing a copy of a run as ``cell``."""
        copy = self.root / f"{folder.name}-then-{cell}-{max_steps}"
        shutil.copytree(folder, copy)
        self.pool.run(cell.ranks, pretrain, cell.config(copy, resume=True, max_steps=max_steps))
        return final_state(copy)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with RankPool() as pool:
        yield Runs(pool, tmp_path_factory.mktemp("zero"))


TWO = Cell(0, 2, 1, False, False, False, "lars")


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_resume_is_bit_exact(stage: int, runs: Runs) -> None:
    resume_bit_exactly(TWO._replace(stage=stage), runs, stop=10)


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
    whole = final_state(runs.folder(cell, max_steps=stop + 10))
    resumed = runs.resumed(runs.folder(cell, max_steps=stop), cell, stop + 10)
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


@pytest.mark.parametrize(
    ("old", "new"),
    [((0, 2), (3, 3)), ((1, 2), (0, 1)), ((2, 2), (1, 3)), ((3, 2), (2, 1)), ((3, 2), (3, 1))],
)
def test_a_checkpoint_fits_other_stages_and_ranks(
    old: tuple[int, int], new: tuple[int, int], runs: Runs, record_property: Any
) -> None:
    continue_elsewhere(old, new, "lars", runs, record_property)


@pytest.mark.soak
@pytest.mark.parametrize("optimizer", ["lars", "sgd"])
@pytest.mark.parametrize("new", itertools.product((0, 1, 2, 3), (1, 2, 3)))
@pytest.mark.parametrize("old", itertools.product((0, 1, 2, 3), (1, 2, 3)))
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
    """Four further steps on another stage and number of ranks end where they would have ended."""
    before, after = (
        TWO._replace(stage=stage, ranks=ranks, optimizer=optimizer) for stage, ranks in (old, new)
    )
    expected = final_state(runs.folder(before, max_steps=14))
    moved = runs.resumed(runs.folder(before, max_steps=10), after, 14)
    difference, where = worst(moved, expected)
    record_property("difference", difference)
    assert difference < 1e-6, where


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
    assert difference < (1e-4 if cell.optimizer == "adamw" else 1e-6), where


@pytest.mark.parametrize("cell", pairwise(ALL), ids=str)
def test_a_stage_ends_where_stage_0_ends(cell: Cell, runs: Runs, record_property: Any) -> None:
    compare(cell, runs, record_property)


@pytest.mark.soak
@pytest.mark.parametrize("cell", ALL, ids=str)
def test_all_cells_end_where_stage_0_ends(cell: Cell, runs: Runs, record_property: Any) -> None:
    compare(cell, runs, record_property)
