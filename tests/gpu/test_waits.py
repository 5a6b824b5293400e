"""A step waits for the device once, where the ranks agree: nothing else stops the host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from sce_video.engine import agreement
from sce_video.engine.pretrain import PretrainTask
from tests.dist.pool import pretrain, small_config
from tests.gpu.ranks import FreshRanks

pytestmark = pytest.mark.gpu

WARM, WATCHED = 2, 3  # steps; the first ones choose kernels and allocate
CALLS = "calls.json"


def watch(config: Any) -> None:
    """A job: training in which, for some steps, a wait is an error but for that of ``read``."""
    read, loss, step, calls = agreement.read, PretrainTask.loss, 0, []

    def set_mode(name: str) -> None:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode(name)

    def watched_loss(task: Any, engine: Any, batch: Any, number: int) -> Any:
        nonlocal step
        step = number
        set_mode("error" if WARM <= step < WARM + WATCHED else "default")
        return loss(task, engine, batch, number)

    def counted(values: Tensor) -> list[float]:
        calls.append(step)
        set_mode("default")
        found: list[float] = read(values)
        set_mode("error" if WARM <= step < WARM + WATCHED else "default")
        return found

    with patch.object(agreement, "read", counted), patch.object(PretrainTask, "loss", watched_loss):
        pretrain(config)
    (Path(config.run.dir) / CALLS).write_text(json.dumps(calls))


@pytest.mark.parametrize("stage", [0, 1])
def test_one_wait_a_step(stage: int, ranks: FreshRanks, tmp_path: Path) -> None:
    config = small_config(
        tmp_path,
        run={"max_steps": WARM + WATCHED + 1},
        augment={"recipe": "kinetics_strength_0.5"},
        train={"save_every": 5, "compile": False},
        deepspeed={"zero_optimization": {"stage": stage}},
    )
    ranks.run(1, watch, config)
    calls = json.loads((tmp_path / CALLS).read_text())
    assert [calls.count(step) for step in range(WARM, WARM + WATCHED)] == [1] * WATCHED
