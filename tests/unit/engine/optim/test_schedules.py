"""Schedules against the reference implementation's numbers, and a run's learning rate."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sce_video.config.tasks import PretrainConfig
from sce_video.engine.optim.schedules import (
    cosine,
    cosine_momentum,
    learning_rate,
    linear,
    scaled_lr,
    warmup_cosine,
    warmup_drops,
)
from tests.conftest import GOLDEN

SCHEDULES = json.loads((GOLDEN / "schedules.json").read_text())["cases"]


def named(prefix: str) -> list[Any]:
    found = [c for c in SCHEDULES if c["name"].startswith(prefix)]
    assert found
    return [pytest.param(c, id=c["name"].replace("x", " of ")) for c in found]


def test_every_case_is_met() -> None:
    """By the tests of this file; the update of the momentum encoder by the model's."""
    kinds = ("momentum_cosine", "lr_", "scale_lr", "scheduler_value", "ema_update")
    assert [len(named(kind)) for kind in kinds] == [6, 6, 7, 4, 1]
    assert len(SCHEDULES) == 24


@pytest.mark.parametrize("case", named("momentum_cosine"))
def test_momentum_golden(case: dict[str, Any]) -> None:
    p = case["params"]
    total = p.get("total_steps", p["max_epochs"])  # the epoch variant counts epochs
    for step, expected in zip(case.get("steps") or case["epochs"], case["expected"], strict=True):
        assert cosine_momentum(step, total, p["initial"]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("case", named("lr_"))
def test_warmup_cosine_golden(case: dict[str, Any]) -> None:
    p = case["params"]
    warmup, total, base = p["warmup_steps"], p["total_steps"], p["base_lr"]
    for step, expected in zip(case["steps"], case["expected"], strict=True):
        lr = warmup_cosine(step, warmup, total, base, p["warmup_start_lr"], p["eta_min"])
        assert lr == pytest.approx(expected, rel=1e-9, abs=2e-12)


def test_warmup_of_one_step() -> None:
    assert [warmup_cosine(s, 1, 5, 2.0) for s in (0, 1)] == [0.0, 2.0]
    assert [warmup_cosine(s, 1, 5, 2.0, 0.5, 0.1) for s in (0, 1, 5)] == [
        0.5,
        2.0,
        pytest.approx(0.1),
    ]


@pytest.mark.parametrize("case", named("scheduler_value"))
def test_values_from_one_to_another_golden(case: dict[str, Any]) -> None:
    """Temperatures and coefficients; where the reference runs backwards, ours is its mirror."""
    p = case["params"]
    follow = {"linear": linear, "cosine": cosine}[p["scheduler"]]
    ends = p["initial"], p["final"]
    for step, expected in zip(case["steps"], case["expected"], strict=True):
        value = follow(step, p["max_step"], *(reversed(ends) if case["reference_bug"] else ends))
        assert value == pytest.approx(expected, abs=1e-12)


def test_drops_after_the_warmup() -> None:
    lrs = [warmup_drops(step, 3, [4, 6], 2.0) for step in range(8)]
    assert lrs == pytest.approx([0, 1, 2, 2, 0.2, 0.2, 0.02, 0.02])
    assert warmup_drops(0, 0, [1], 2.0) == 2.0


@pytest.mark.parametrize("case", named("scale_lr"))
def test_scaled_lr_golden(case: dict[str, Any]) -> None:
    p = case["params"]
    lr = scaled_lr(p["initial_lr"], p["scaler"] or "none", p["batch_size"])
    assert lr == pytest.approx(case["expected"], rel=1e-12)


def config(**optim: Any) -> PretrainConfig:
    tree = {"data": {"shards": "none"}, "train": {"batch_size": 64, "epochs": 4}, "optim": optim}
    return PretrainConfig.model_validate(tree)


def test_the_rate_of_a_run_is_scaled_warmed_up_and_follows_a_cosine() -> None:
    ends = {"warmup_start_lr": 0.1, "final_lr": 0.01}
    made = config(lr=2.0, lr_scaling="linear", warmup_epochs=1.5, **ends)
    lrs = [learning_rate(made, step, 10) for step in range(40)]
    assert lrs == [warmup_cosine(step, 15, 40, 2.0 * 64 / 256, 0.1, 0.01) for step in range(40)]


def test_the_rate_of_a_run_drops_at_epochs() -> None:
    made = config(lr=2.0, lr_scaling="none", warmup_epochs=0.3, decay_epochs=[1, 2.5])
    lrs = [learning_rate(made, step, 10) for step in range(40)]
    assert lrs == [warmup_drops(step, 3, [10, 25], 2.0) for step in range(40)]
    assert lrs[9:11] == pytest.approx([2.0, 0.2])
    assert lrs[24:26] == pytest.approx([0.2, 0.02])
