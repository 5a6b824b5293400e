"""Bare steps: every part of every kind of task, and the weights stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from sce_video.bench.bare import PARTS, Bare
from sce_video.bench.made import still
from sce_video.config.load import load_config
from tests.unit.bench.tiny import TASKS, config_file, tiny_task


@pytest.fixture
def alone() -> Iterator[None]:
    """One rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone", "one_thread")
@pytest.mark.parametrize("name", TASKS)
def test_parts_of_a_task(name: str, tmp_path: Path) -> None:
    changes, absent = TASKS[name]
    task = tiny_task(still(load_config(config_file(tmp_path, changes))), 3)
    before = [p.clone() for p in task.module.parameters()]
    spent = Bare(task).take(2)
    assert len(spent) == 2
    assert {*spent[0], *absent} == set(PARTS)
    assert min(min(parts.values()) for parts in spent) >= 0
    for weight, old in zip(task.module.parameters(), before, strict=True):
        torch.testing.assert_close(weight, old, rtol=1e-6, atol=1e-7)
