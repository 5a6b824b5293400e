"""Training on a GPU: every ZeRO stage is stage 0, a resume is exact, checkpoints are whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sce_video.engine import checkpoint
from tests.dist.pool import small_config
from tests.dist.test_zero import worst
from tests.gpu.ranks import NONDETERMINISTIC, FreshRanks, pretrain_alike, pretrain_on_one_device
from tests.runs import final_state

pytestmark = pytest.mark.gpu

STOP, STEPS = 4, 6  # an epoch, after which a checkpoint is due; and all


def config(folder: Path, stage: int, **run: Any) -> Any:
    """A few steps of LARS in fp32, a checkpoint an epoch."""
    return small_config(
        folder,
        run={"max_steps": STEPS, **run},
        optim={"name": "lars", "lr": 0.5, "weight_decay": 1e-3},
        train={"precision": "fp32", "compile": False, "save_every": 1, "keep": 9},
        deepspeed={"zero_optimization": {"stage": stage}},
    )


class Runs:
    """Runs by ZeRO stage, each made once, of one rank."""

    def __init__(self, ranks: FreshRanks, root: Path) -> None:
        self._ranks, self._root = ranks, root

    def whole(self, stage: int) -> Path:
        return self._make(f"whole-{stage}", stage, STEPS)

    def stopped(self, stage: int) -> Path:
        return self._make(f"stopped-{stage}", stage, STOP)

    def resumed(self, stage: int) -> Path:
        folder = self._root / f"resumed-{stage}"
        shutil.copytree(self.stopped(stage), folder)
        self._ranks.run(1, pretrain_alike, config(folder, stage, resume=True))
        return folder

    def _make(self, name: str, stage: int, steps: int) -> Path:
        folder = self._root / name
        if not folder.exists():
            folder.mkdir()
            self._ranks.run(1, pretrain_alike, config(folder, stage, max_steps=steps))
        return folder


@pytest.fixture(scope="module")
def runs(ranks: FreshRanks, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(ranks, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_stage_ends_where_stage_0_ends(stage: int, runs: Runs) -> None:
    difference, where = worst(final_state(runs.whole(stage)), final_state(runs.whole(0)))
    assert difference < 1e-6, f"{difference:.3g} of {where}, {warnings_of(runs.whole(stage))}"


@pytest.mark.parametrize("stage", [1, 3])
def test_a_resume_is_bit_exact(stage: int, runs: Runs) -> None:
    whole, resumed = runs.whole(stage), runs.resumed(stage)
    same(final_state(whole), final_state(resumed), resumed)


@pytest.mark.parametrize("stage", [1, 3])
def test_a_checkpoint_while_training_goes_on_is_that_of_a_run_that_ends_there(
    stage: int, runs: Runs
) -> None:
    def checkpoint_of(folder: Path) -> dict[str, Tensor]:
        path, state = checkpoint.newest(folder / "checkpoints", f"step-{STOP:08d}")
        assert state["step"] == STOP
        return load_file(path / "model.safetensors") | load_file(path / "optimizer.safetensors")

    whole, stopped = runs.whole(stage), runs.stopped(stage)
    same(checkpoint_of(whole), checkpoint_of(stopped), whole)


def test_two_ranks_on_one_device_are_one_rank(
    ranks: FreshRanks, runs: Runs, tmp_path: Path
) -> None:
    """Over gloo: NCCL refuses two ranks on a GPU. Sums over the batch come in another order."""
    ranks.run(2, pretrain_on_one_device, config(tmp_path, 0))
    difference, where = worst(final_state(tmp_path), final_state(runs.whole(0)))
    assert difference < 1e-5, f"{difference:.3g} of {where}, {warnings_of(tmp_path)}"


def same(a: dict[str, Tensor], b: dict[str, Tensor], folder: Path) -> None:
    """Bit for bit; else which tensors differ, the most by how much, and what may be why."""
    assert a.keys() == b.keys()
    others = {name: t for name, t in a.items() if not torch.equal(t, b[name])}
    most = {
        name: float((t - b[name]).double().norm() / t.double().norm()) for name, t in others.items()
    }
    largest = max(most, key=most.__getitem__, default="")
    assert not others, (
        f"{len(others)} of {len(a)} tensors differ, {largest} by {most[largest]:.3g}, "
        f"{warnings_of(folder)}"
    )


def warnings_of(folder: Path) -> str:
    """What torch said of ops that have no deterministic algorithm."""
    return f"torch warned of {json.loads((folder / NONDETERMINISTIC).read_text()) or 'nothing'}"
