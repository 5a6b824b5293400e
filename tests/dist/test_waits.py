"""A step of training waits for the device once, where its ranks agree."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.dist.pool import RankPool, pretrain, small_config, supervise, supervised_config
from tests.waits import Waits, waits_of


class Labelled:
    """An index of as many samples as the pool's plan has, with classes."""

    manifest = SimpleNamespace(classes=("a", "b", "c"))

    def __len__(self) -> int:
        return 144


def watched(job: Any, config: Any, out: Path) -> None:
    """Train; rank 0 writes down the waits of each step."""
    from sce_video.engine.loop import Trainer

    with waits_of(Trainer, "_train_step") as steps:
        job(config, *([None, Labelled()] if job is pretrain else []))
    if os.environ["RANK"] == "0":
        out.write_text(json.dumps(steps))


OBJECTIVES: list[dict[str, Any]] = [
    {"name": "sce", "queue": 108},
    {"name": "sce", "queue": 108, "negatives": "ring", "outer": 0.5, "neighbours": 3},
    {"name": "ring", "queue": 108, "anneal": "linear"},
    {"name": "snclr", "queue": 100, "topk": 3},
    {"name": "simclr"},
    {"name": "mocov3"},
    {"name": "ir", "negatives": 20},
]


def steps_of(pool: RankPool, ranks: int, job: Any, config: Any, folder: Path) -> list[list[str]]:
    """The waits of each step past the second: until then buffers and codes are made."""
    pool.run(ranks, watched, job, config, folder / "waits")
    found: list[list[str]] = json.loads((folder / "waits").read_text())[2:]
    assert len(found) == 2
    return found


def assert_one(steps: list[list[str]]) -> None:
    assert [len(waits) for waits in steps] == [1, 1], steps
    assert all("agreement.py" in where for [where] in steps)


@pytest.mark.parametrize(
    "objective",
    [
        pytest.param(o, id="-".join(map(str, o.values())), marks=[pytest.mark.slow] * (number > 2))
        for number, o in enumerate(OBJECTIVES)
    ],
)
def test_an_objective_waits_for_nothing(
    objective: dict[str, Any], pool: RankPool, tmp_path: Path
) -> None:
    """Nor does the linear probe."""
    config = small_config(tmp_path / "run", run={"max_steps": 4}, eval={"linear": True})
    tree = config.model_dump() | {"objective": objective}
    config = type(config).model_validate(tree)
    assert_one(steps_of(pool, 1, pretrain, config, tmp_path))


@pytest.mark.parametrize(
    ("stage", "clip"),
    [
        pytest.param(0, 0.05, marks=pytest.mark.slow),
        pytest.param(1, 0, marks=pytest.mark.slow),
        (2, 0.05),
        pytest.param(3, 0, marks=pytest.mark.slow),
    ],
)
def test_no_stage_waits(stage: int, clip: float, pool: RankPool, tmp_path: Path) -> None:
    config = small_config(
        tmp_path / "run",
        run={"max_steps": 4},
        optim={"clip_norm": clip},
        train={"accumulate": 2},
        deepspeed={"zero_optimization": {"stage": stage}},
    )
    assert_one(steps_of(pool, 2, pretrain, config, tmp_path))


def test_training_with_labels_waits_once(pool: RankPool, tmp_path: Path) -> None:
    config = supervised_config(tmp_path / "run", "finetune", run={"max_steps": 4})
    assert_one(steps_of(pool, 1, supervise, config, tmp_path))


def test_the_count_finds_what_waits() -> None:
    """And lets pass what the host knows."""
    with Waits() as waits:
        x = torch.ones(3, device="cpu")  # said to be there: on the GPU
        here = torch.ones(3)
        mask, float_here = x > 0, float(here.sum())
        assert not waits.found
        assert float_here == float(x.sum())
        x[mask]
        here[here > 0]
        torch.tensor([1.0], device=x.device)
        here.to(x.device)
        torch.ones(3).to(x.device, non_blocking=True)
        assert x.nonzero().shape == (3, 1)
    names = [found.split()[0] for found in waits.found]
    assert names == ["__float__", "__getitem__", "tensor", "to", "nonzero"]
