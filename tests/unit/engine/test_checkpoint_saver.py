"""Checkpoints are of the step they were taken at, appear whole, and the right ones are kept."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn

from sce_video.engine import checkpoint
from sce_video.engine.checkpoint_saver import CheckpointSaver
from sce_video.engine.zero_layout import zero_layout
from sce_video.errors import SceVideoError


@pytest.fixture
def engine() -> Iterator[Any]:
    """One rank without ZeRO; ``train()`` makes a step."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)

    def train() -> None:
        optimizer.zero_grad()
        module(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()

    yield SimpleNamespace(
        module=module,
        optimizer=optimizer,
        device=torch.device("cpu"),
        zero_optimization_stage=lambda: 0,
        train=train,
    )
    dist.destroy_process_group()


def saver(engine: Any, folder: Path, keep: int = 3, milestones: int = 0) -> CheckpointSaver:
    write = partial(checkpoint.save, folder, keep=keep, milestones=milestones)
    return CheckpointSaver(engine, zero_layout(engine), write)


def state(step: int) -> dict[str, Any]:
    return {"step": step, "run_id": "abc", "data": "1" * 64}


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def test_training_goes_on_while_the_state_of_the_step_is_written(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, write = threading.Event(), save_file
    monkeypatch.setattr(checkpoint, "save_file", lambda *to: (gate.wait(20), write(*to)))
    engine.train()
    taken = {name: t.clone() for name, t in engine.module.state_dict().items()}
    momentum = [engine.optimizer.state[p]["momentum_buffer"].clone() for p in parameters(engine)]
    saves = saver(engine, tmp_path)
    saves.take(state(1))
    engine.train()  # with the writer still at its first file
    assert not steps(tmp_path)
    gate.set()
    saves.commit()
    path, _ = checkpoint.newest(tmp_path)
    checkpoint.restore(engine, zero_layout(engine), path)
    for name, tensor in engine.module.state_dict().items():
        assert torch.equal(tensor, taken[name]), name
    for p, expected in zip(parameters(engine), momentum, strict=True):
        assert torch.equal(engine.optimizer.state[p]["momentum_buffer"], expected)


def parameters(engine: Any) -> list[nn.Parameter]:
    return list(engine.module.parameters())


def failing(at: int) -> Callable[[int], None]:
    """``os.fsync`` that finds the disk full at its ``at``-th call."""
    calls, real = iter(range(10**6)), os.fsync

    def fsync(descriptor: int) -> None:
        if next(calls) == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    return fsync


@pytest.mark.parametrize("at", range(5))
def test_a_failed_write_is_told_and_leaves_the_older_ones(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    engine.train()
    saves = saver(engine, tmp_path, keep=1)
    saves.take(state(1))
    saves.commit()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(at))
        saves.take(state(2))
        saves.settle()
    assert saves.error()
    told = r"step-00000002: cannot .*No space.*; make room, and go on with run\.resume=auto$"
    with pytest.raises(SceVideoError, match=told):
        saves.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoint.newest(tmp_path)[1] == state(1)
    again = saver(engine, tmp_path, keep=1)
    again.take(state(3))
    again.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_the_group_may_read_a_checkpoint(engine: Any, tmp_path: Path, for_the_group: int) -> None:
    saves = saver(engine, tmp_path)
    saves.take(state(1))
    saves.commit()
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("step-*/*")}
    assert modes["model.safetensors"] == for_the_group
    assert set(modes.values()) == {for_the_group}


def test_the_newest_and_the_milestones_are_kept(engine: Any, tmp_path: Path) -> None:
    saves = saver(engine, tmp_path, keep=2, milestones=4)
    engine.train()
    for step in range(2, 15, 2):
        saves.take(state(step))
    saves.commit()
    assert steps(tmp_path) == [4, 8, 12, 14]


def test_after_a_first_one_that_failed_there_is_nothing_to_go_on_from(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(0))
    saves = saver(engine, tmp_path)
    saves.take(state(1))
    told = r"; make room, and start it again with run\.resume=auto: there is no checkpoint yet$"
    with pytest.raises(SceVideoError, match=told):
        saves.commit()
    assert not list(tmp_path.iterdir())


ANOTHER: dict[str, tuple[str, Callable[[dict[str, torch.Tensor]], object], str]] = {
    "a layer too many": ("model", lambda t: t.update({"2.weight": torch.ones(2)}), "2.weight"),
    "a layer too few": ("model", lambda t: t.pop("0.bias"), "0.bias"),
    "another shape": (
        "model",
        lambda t: t.update({"0.weight": torch.ones(3, 5)}),
        r"0.weight \[3, 5\] torch.float32",
    ),
    "another type": (
        "model",
        lambda t: t.update({"0.bias": torch.ones(3).double()}),
        r"0.bias \[3\] torch.float64",
    ),
    "none": ("model", lambda t: t.clear(), "0.weight, 0.bias, 1.weight and 4 more"),
    "state of no parameter": (
        "optimizer",
        lambda t: t.update({"9/momentum_buffer": torch.ones(3)}),
        "9/momentum_buffer",
    ),
    "state of another shape": (
        "optimizer",
        lambda t: t.update({"0.bias/momentum_buffer": torch.ones(4)}),
        r"0.bias/momentum_buffer \[4\] torch.float32",
    ),
    "state without its parameter's": (
        "optimizer",
        lambda t: t.pop("0.bias/momentum_buffer"),
        "0.bias/momentum_buffer",
    ),
}


@pytest.mark.parametrize("case", ANOTHER)
def test_tensors_of_another_network_are_one_line(engine: Any, tmp_path: Path, case: str) -> None:
    engine.train()
    saves = saver(engine, tmp_path)
    saves.take(state(1))
    saves.commit()
    before = {name: t.clone() for name, t in engine.module.state_dict().items()}
    name, change, told = ANOTHER[case]
    path, _ = checkpoint.newest(tmp_path)
    file = path / f"{name}.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    told = rf"^{file}: holds other tensors than the network of this run \({told}\); delete {path} "
    with pytest.raises(SceVideoError, match=told):
        checkpoint.restore(engine, zero_layout(engine), path)
    for key, tensor in engine.module.state_dict().items():
        assert torch.equal(tensor, before[key]), key
