"""Training with labels on several ranks and any ZeRO stage: one run, whatever shards it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.dist.pool import RankPool, pretrain, small_config, supervise, supervised_config
from tests.runs import final_state, relative_difference

pytestmark = pytest.mark.slow


class Runs:
    """Runs in a folder, made on a pool."""

    def __init__(self, pool: RankPool, root: Path) -> None:
        self.pool, self.root = pool, root

    def make(self, name: str, task: str, ranks: int, stage: int = 0, **sections: Any) -> Path:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        zero = {"zero_optimization": {"stage": stage}}
        config = supervised_config(folder, task, deepspeed=zero, **sections)
        self.pool.run(ranks, supervise, config)
        return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with RankPool() as pool:
        yield Runs(pool, tmp_path_factory.mktemp("supervised"))


@pytest.fixture(scope="module")
def pretrained(runs: Runs) -> Path:
    folder = runs.root / "pretrained"
    folder.mkdir()
    runs.pool.run(1, pretrain, small_config(folder, run={"max_steps": 3}))
    return folder


@pytest.mark.parametrize(("ranks", "stage"), [(1, 0), (2, 1), (2, 2), (2, 3)])
def test_the_trunk_below_a_linear_layer_stays_as_it_is(
    ranks: int, stage: int, runs: Runs, pretrained: Path
) -> None:
    run = {"init_from": str(pretrained), "max_steps": 6}
    folder = runs.make(f"linear-{ranks}-{stage}", "linear", ranks, stage, run=run)
    state, first = final_state(folder), load_file(pretrained / "encoder.safetensors")
    for name, tensor in first.items():
        assert torch.equal(state[f"trunk.{name}"], tensor), name
    assert any("running" in name for name in first)
    assert {name for name in state if "/" in name} == {
        "linear.weight/momentum_buffer",
        "linear.bias/momentum_buffer",
    }
    assert state["linear.bias"].abs().min() > 0  # where it starts
    left = load_file(folder / "classifier.safetensors")
    assert left.keys() == {n for n in state if "/" not in n}
    for name, tensor in left.items():
        assert torch.equal(state[name], tensor), name
    assert load_file(folder / "encoder.safetensors").keys() == first.keys()
    with safe_open(folder / "classifier.safetensors", framework="pt") as file:
        assert '"task":"linear","classes":["a","b","c"]' in file.metadata()["sce_video"]
    log = (folder / "run.log").read_text()
    assert f"loaded all {len(first)} tensors of the trunk; 2 others start fresh: linear.weight" in log
    assert "fed with" not in log


@pytest.mark.parametrize(
    ("stage", "ranks", "accumulate"), [(0, 2, 1), (1, 2, 2), (2, 3, 1), (3, 2, 1)]
)
@pytest.mark.parametrize("task", ["linear", "finetune"])
def test_any_ranks_and_stage_end_where_one_rank_ends(
    task: str, stage: int, ranks: int, accumulate: int, runs: Runs
) -> None:
    sections: dict[str, Any] = {"run": {"max_steps": 10}}
    alone = runs.root / f"{task}-alone"
    if not alone.is_dir():
        runs.make(alone.name, task, 1, **sections)
    sections["train"] = {"accumulate": accumulate}
    if accumulate > 1 and task == "finetune":  # BN sees micro-batches
        alone = runs.make(f"{task}-{accumulate}", task, 1, **sections)
    folder = runs.make(f"{task}-{stage}-{ranks}-{accumulate}", task, ranks, stage, **sections)
    assert relative_difference(final_state(folder), final_state(alone)) < 2e-5


@pytest.mark.parametrize("task", ["linear", "finetune"])
def test_resume_is_bit_exact_and_needs_no_encoder(
    task: str, runs: Runs, pretrained: Path, tmp_path: Path
) -> None:
    """With dropout, whose draws are a function of the step."""
    shutil.copytree(pretrained, tmp_path / "gone")
    sections: dict[str, Any] = {"head": {"dropout": 0.5}}
    start = {"init_from": str(tmp_path / "gone")}
    whole = runs.make(f"{task}-whole", task, 2, 1, run={**start, "max_steps": 8}, **sections)
    parts = runs.make(f"{task}-parts", task, 2, 1, run={**start, "max_steps": 3}, **sections)
    shutil.rmtree(tmp_path / "gone")
    runs.make(f"{task}-parts", task, 2, 1, run={**start, "max_steps": 8, "resume": True}, **sections)
    a, b = final_state(whole), final_state(parts)
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name
    weights = load_file(parts / "classifier.safetensors")
    assert torch.equal(weights["linear.weight"], a["linear.weight"])
