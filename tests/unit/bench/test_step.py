"""Steps as trained beside their bare parts: turns, figures, the command."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import cast

import pytest
import torch

from sce_video.bench import step as bench
from sce_video.bench.bare import (
    AUGMENT,
    BACKWARD,
    COPY,
    HEADS,
    LOSS,
    MEMORY,
    OPTIMIZER,
    PARTS,
    TRUNK,
    Bare,
)
from sce_video.bench.step import REST, Turns, breakdown, step_table
from sce_video.cli import main
from tests.runs import sce_video
from tests.unit.bench.tiny import TASKS, config_file


class _Fixed:
    """Bare steps of 10 ms that move the clock."""

    def __init__(self) -> None:
        self.now, self.taken = 0.0, 0

    def take(self, steps: int) -> list[dict[str, float]]:
        self.now += 0.010 * steps
        self.taken += steps
        return [{BACKWARD: 0.010}] * steps


def test_trained_and_bare_steps_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = _Fixed()
    monkeypatch.setattr(time, "perf_counter", lambda: bare.now)
    turns = Turns(cast(Bare, bare), torch.device("cpu"), block=2)
    assert bare.taken == bench._WARM
    for step in range(bench._WARM + 2 * 3 + 1):
        turns(step)
        bare.now += 0.100 if step < bench._WARM else 0.012
    assert turns.trained == pytest.approx([0.012] * 3)  # warm and bare steps are not in it
    assert turns.parts == [{BACKWARD: 0.010}] * 6
    assert turns.peak is None


def test_a_gpu_s_peak_is_that_of_trained_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    bare, calls = _Fixed(), []
    peaks = iter([150, 170, 160])
    fakes = {
        "memory_allocated": lambda _: 40,
        "max_memory_allocated": lambda _: next(peaks),
        "reset_peak_memory_stats": lambda _: calls.append("reset"),
        "synchronize": lambda _: calls.append("wait"),
        "default_stream": lambda _: None,
        "stream": lambda _: contextlib.nullcontext(),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    turns = Turns(cast(Bare, bare), torch.device("cuda"), block=1)
    for step in range(bench._WARM + 4):
        turns(step)
    assert turns.peak == 170 - 40
    assert calls == ["reset", "wait", *(["wait", "reset", "wait"] * 3)]


def test_figures_of_made_times() -> None:
    parts = [{COPY: 0.0, AUGMENT: 0.010, TRUNK: 0.040, BACKWARD: 0.050}] * 2
    slow = [{COPY: 0.0, AUGMENT: 0.020, TRUNK: 0.080, BACKWARD: 0.100}] * 2
    found = breakdown([*parts, *slow, *parts], [0.110, 0.208, 0.104], most=1.05)
    assert found["steps"] == 6
    rows = {row["name"]: row for row in found["parts"]}
    assert list(rows) == [COPY, AUGMENT, TRUNK, BACKWARD, REST]
    assert rows[TRUNK]["ms"] == pytest.approx(40)
    assert rows[TRUNK]["share"] == pytest.approx(40 / 110)
    assert rows[COPY]["spread"] == 0
    assert rows[TRUNK]["spread"] == pytest.approx(30 / 40)
    assert rows[REST]["ms"] == pytest.approx(8)  # of 10, 8 and 4
    assert found["bare"]["ms"] == pytest.approx(100)
    assert found["step"]["ms"] == pytest.approx(110)
    assert (found["ratio"], found["met"]) == (pytest.approx(1.04), True)  # of 1.1, 1.04 and 1.04
    assert not breakdown(parts, [0.104], most=1.03)["met"]


def test_a_table_of_a_gpu() -> None:
    parts = [{AUGMENT: 0.012, BACKWARD: 0.390}]
    result = {
        **breakdown(parts, [0.455], most=1.03),
        **{"machine": "m", "device": "cuda", "threads": 1, "trunk": "r2plus1d_18"},
        **{"batch_size": 64, "memory": {"peak": 31.2 * 2**30, "plan": 32.9 * 2**30}},
        **{"flops": 64 * 648e9, "flops_per_s": 64 * 648e9 / 0.455},
    }
    lines = step_table(result).splitlines()
    assert "r2plus1d_18 on cuda, 64 samples a step" in lines[1]
    assert "no shard set is read" in lines[1]
    assert lines[-3:] == [
        "step as trained: 1.132 times its bare parts (at most 1.03: not met)",
        "memory at the peak: 31.2 GiB; the plan says 32.9 GiB",
        "648 GFLOP a sample: 91.1 TFLOP/s",
    ]


@pytest.mark.slow
def test_the_command_needs_no_shards_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    path = config_file(tmp_path, TASKS["sce"][0])
    command = ("bench", "step", "train.epochs=1", "--config", path, "--steps", "2", "--json")
    done = sce_video(*command, cwd=tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    assert not any((tmp_path / "empty").iterdir())
    result = json.loads(done.stdout)
    assert [row["name"] for row in result["parts"]] == [*PARTS, REST]
    assert result["steps"] == 2
    assert (result["device"], result["trunk"]) == ("cpu", "resnet18_small")
    assert result["ratio"] > 0
    assert (result["most"], result["met"]) == (1.05, result["ratio"] <= 1.05)
    assert result["memory"]["peak"] is None
    assert result["memory"]["plan"] > 0
    seconds = result["step"]["ms"] / 1000
    assert result["flops_per_s"] == pytest.approx(result["flops"] / seconds)
    assert "no shard set is read" in step_table(result)


@pytest.mark.slow
def test_the_command_on_a_training_with_labels(tmp_path: Path) -> None:
    path = config_file(tmp_path, {**TASKS["linear"][0], "run": {"init_from": "runs/none"}})
    done = sce_video("bench", "--config", path, "step", "--steps", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    parts = [row["name"] for row in json.loads(done.stdout)["parts"]]
    assert parts == [COPY, AUGMENT, TRUNK, HEADS, LOSS, BACKWARD, OPTIMIZER, MEMORY, REST]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["step", "data.shard=x"], "did you mean 'data.shards'?", id="unknown-key"),
        pytest.param(["stpe"], "stpe", id="not-step"),
        pytest.param(["step", "train.batch_size=6", "train.accumulate=4"], "divide", id="batch"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
