"""Training with labels on several ranks and any ZeRO stage: one run, whatever shards it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

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
def runs(pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(pool, tmp_path_factory.mktemp("supervised"))


@pytest.fixture(scope="module")
def pretrained(runs: Runs) -> Path:
    folder = runs.root / "pretrained"
    folder.mkdir()
    runs.pool.run(1, pretrain, small_config(folder, run={"max_steps": 3}))
    return folder


@pytest.mark.parametrize(("ranks", "stage"), [(1, 0), (2, 2), (2, 3)])
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
    assert (
        f"loaded all {len(first)} tensors of the trunk; 2 others start fresh: linear.weight" in log
    )
    assert "fed with" not in log


@pytest.mark.parametrize(
    ("task", "stage", "ranks", "accumulate"),
    [
        ("finetune", 0, 2, 1),
        ("finetune", 1, 2, 2),
        ("finetune", 2, 3, 1),
        ("finetune", 3, 2, 1),
        ("linear", 1, 2, 2),
        ("linear", 3, 2, 1),
    ],
)
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
    runs.make(
        f"{task}-parts", task, 2, 1, run={**start, "max_steps": 8, "resume": True}, **sections
    )
    a, b = final_state(whole), final_state(parts)
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name
    weights = load_file(parts / "classifier.safetensors")
    assert torch.equal(weights["linear.weight"], a["linear.weight"])


CLASSES, FEATURES = 10, 32


def clusters(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features ``[count,F]`` of overlapping classes off the origin, and labels ``[count]``.

    Directions of much variance say nothing of the class: the nearest class mean does badly.
    """
    made = torch.Generator().manual_seed(0)
    means = torch.randn(CLASSES, FEATURES, generator=made)
    scales = torch.logspace(0.6, -0.3, FEATURES)
    turn = torch.linalg.qr(torch.randn(FEATURES, FEATURES, generator=made))[0]
    drawn = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=drawn)
    noise = torch.randn(count, FEATURES, generator=drawn) * scales
    return (0.5 * means[labels] + noise) @ turn + 0.3, labels


def probe(config: Any) -> None:
    """The real task and trainer on features in the place of clips."""
    from sce_video.engine.loop import Trainer
    from sce_video.engine.runtime import start_runtime, stop_runtime
    from sce_video.engine.supervised import SupervisedTask
    from sce_video.stream.loader import ClipBatch
    from sce_video.stream.order import BatchPlan

    features, labels = clusters(4096, seed=1)

    class Trunk(nn.Identity):
        features = FEATURES

    class Task(SupervisedTask):
        def batches(self, consumed: int) -> Iterator[ClipBatch]:
            for positions in self.plan.micro_batches(consumed):  # type: ignore[union-attr]
                rows = np.array([p.row for p in positions])
                yield ClipBatch([features[rows]], rows, 0 * rows, labels[rows])

        def views(self, batch: ClipBatch) -> list[Tensor]:
            return batch.views

        def picture(self, views: list[Tensor]) -> Tensor:
            return torch.zeros(3, 1, 1, dtype=torch.uint8)

    patch("sce_video.model.encoder.build_trunk", lambda name, width: Trunk()).start()
    runtime = start_runtime(workers=0)
    rows = np.arange(len(labels))
    train = config.train
    plan = BatchPlan(
        rows=rows,
        shard_of=0 * rows,
        digest="",
        seed=0,
        epochs=train.epochs,
        batch_size=train.batch_size,
        rank=runtime.rank,
        ranks=runtime.ranks,
    )
    names = tuple(map(str, range(CLASSES)))
    index: Any = SimpleNamespace(manifest=SimpleNamespace(classes=names))
    try:
        Trainer(Task(config, index, plan, runtime)).run()
    finally:
        stop_runtime()


def test_a_linear_probe_is_scikit_learn_s_logistic_regression(
    runs: Runs, tmp_path: Path, record_property: Any
) -> None:
    optim = {"lr": 0.5, "lr_scaling": "linear", "weight_decay": 0, "warmup_epochs": 4}
    config = supervised_config(
        tmp_path, "linear", optim=optim, train={"epochs": 30, "batch_size": 256}
    )
    runs.pool.run(2, probe, config)
    weights = load_file(tmp_path / "classifier.safetensors")
    (x, y), (test, truth) = clusters(4096, seed=1), clusters(10_000, seed=2)

    def score(logits: Tensor) -> float:
        return float((logits.argmax(1) == truth).double().mean())

    def ours_of(features: Tensor) -> Tensor:
        return features @ weights["linear.weight"].T + weights["linear.bias"]

    def theirs_of(features: Tensor) -> Tensor:
        return torch.from_numpy(reference.decision_function(features.double().numpy()))

    reference = LogisticRegression(C=1e6, max_iter=5000).fit(x.double().numpy(), y.numpy())
    ours, theirs = score(ours_of(test)), score(theirs_of(test))
    loss, least = (cross_entropy(of(x), y).item() for of in (ours_of, theirs_of))
    means = torch.stack([x[y == c].mean(0) for c in range(CLASSES)])
    nearest = score(-torch.cdist(test, means))
    record_property("accuracy", {"ours": ours, "theirs": theirs, "nearest mean": nearest})
    record_property("loss", {"ours": loss, "least": least})
    assert least - 1e-6 <= loss < 1.02 * least
    assert abs(ours - theirs) < 0.01
    assert 0.5 < theirs < 0.95
    assert nearest < theirs - 0.05
