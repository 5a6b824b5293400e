"""Figures of a run's stages: all there, consistent with each other, and nothing left behind."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from sce_video.bench.stages import CLIP_STAGES, DEVICE_STAGES, summary, table
from sce_video.cli import main
from tests.runs import make_shards, sce_video, write_config

STAGES = [*CLIP_STAGES, *DEVICE_STAGES]
COLUMNS = {"name", "ms", "spread", "samples_per_s", "ms_per_step"}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench")
    return write_config(root / "tiny.yaml", make_shards(root))


def measured(config: Path, folder: Path, *arguments: str) -> dict[str, Any]:
    """What ``--json`` prints, started in an empty ``folder`` that it must leave empty."""
    command = ("bench", "--config", str(config), "--steps", "2", "--json", *arguments)
    with tempfile.TemporaryDirectory() as short:  # sockets lie there, whose names must be short
        done = sce_video(*command, cwd=folder, TMPDIR=short)
        left = list(Path(short).glob("sce-video*"))
    assert done.returncode == 0, done.stderr
    assert not [*left, *folder.iterdir()]
    assert not (config.parent / "runs").exists()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check_sums(result: dict[str, Any]) -> None:
    batch, hands = result["batch_size"], max(result["workers"], 1)
    rows = {row["name"]: row for row in result["stages"]}
    assert list(rows) == STAGES
    for row in (*rows.values(), result["run"]):
        assert set(row) == COLUMNS
        assert row["ms"] > 0
        assert row["spread"] >= 0
        assert row["samples_per_s"] == pytest.approx(1000 / row["ms"])
        shared = hands if row["name"] in CLIP_STAGES else 1
        assert row["ms_per_step"] == pytest.approx(row["ms"] * batch / shared)
    clips = sum(rows[name]["ms_per_step"] for name in CLIP_STAGES)
    device = sum(rows[name]["ms_per_step"] for name in DEVICE_STAGES)
    assert result["bound"] == ("clips" if clips > device else "device")
    assert result["workers_needed"] == math.ceil(clips * hands / device) >= 1
    assert rows[result["slowest"]]["ms_per_step"] == max(r["ms_per_step"] for r in rows.values())
    assert 0 <= result["waiting"] < 1
    working = result["run"]["ms_per_step"] * (1 - result["waiting"])
    assert result["between"] == pytest.approx(working - device)


@pytest.mark.slow
def test_stages_of_a_pretraining(config: Path, tmp_path: Path) -> None:
    result = measured(config, tmp_path)
    check_sums(result)
    assert result.keys() == {
        "machine",
        "device",
        "threads",
        "cores",
        "shards",
        "trunk",
        "batch_size",
        "workers",
        "samples",
        "steps",
        "stages",
        "run",
        "waiting",
        "between",
        "slowest",
        "bound",
        "workers_needed",
    }
    assert (result["batch_size"], result["workers"], result["steps"]) == (12, 1, 2)
    assert result["samples"] == 36  # whole micro-batches, 32 samples at least
    assert result["trunk"] == "r2plus1d_18"
    assert result["shards"].endswith("shards train")
    lines = table(result).splitlines()
    assert [line.split()[0] for line in lines[4:10]] == [*STAGES, "run"]
    assert "torch" in lines[0]


@pytest.mark.slow
def test_stages_of_a_training_with_labels(config: Path, tmp_path: Path) -> None:
    """In micro-batches, and without workers."""
    tree = yaml.safe_load(config.read_text())
    del tree["objective"]
    tree |= {"task": "finetune", "augment": {"recipe": "video_finetune"}, "model": {"width": 4}}
    labels = config.with_name("labels.yaml")
    labels.write_text(yaml.safe_dump(tree))
    result = measured(labels, tmp_path, "train.accumulate=2", "data.workers=0")
    check_sums(result)
    assert (result["workers"], result["steps"]) == (0, 2)
    assert result["samples"] == 36


def test_what_bounds_a_run() -> None:
    spent = {"read": [0.001] * 4, "decode": [0.010, 0.012, 0.008, 0.010], "cut": [0.003] * 4}
    spent |= {"augment": [0.008] * 4, "step": [0.020] * 4}
    steps = [(0.070, 0.042), (0.070, 0.028)]
    found = summary(spent, steps, batch_size=8, workers=2)
    rows = {row["name"]: row for row in found["stages"]}
    assert rows["decode"]["ms"] == pytest.approx(10)
    assert rows["decode"]["spread"] == pytest.approx(0.1)  # 9.5 to 10.5
    assert rows["decode"]["ms_per_step"] == pytest.approx(40)
    assert rows["step"]["ms"] == pytest.approx(2.5)
    assert found["run"]["ms_per_step"] == pytest.approx(70)
    assert found["waiting"] == pytest.approx(0.5)
    assert (found["bound"], found["slowest"]) == ("clips", "decode")
    assert found["workers_needed"] == 4  # 8 x 14 ms of clips in 28 ms
    assert found["between"] == pytest.approx(70 - 35 - 28)
    found = summary(spent, steps, batch_size=8, workers=8)
    assert (found["bound"], found["slowest"], found["workers_needed"]) == ("device", "step", 4)
    alone = summary(spent, steps, batch_size=8, workers=0)
    assert alone["stages"] == summary(spent, steps, batch_size=8, workers=1)["stages"]


def test_what_is_said_of_a_run() -> None:
    spent = {"read": [0.001], "decode": [0.010], "cut": [0.003], "augment": [0.008]}
    spent["step"] = [0.020]
    about = {"machine": "m", "device": "cpu", "threads": 1, "cores": 3, "shards": "s", "trunk": "t"}

    def said(workers: int) -> list[str]:
        found = summary(spent, [(0.070, 0.035)], batch_size=8, workers=workers)
        return table({**about, **found}).splitlines()[-2:]

    held, between = said(2)
    assert held == (
        "The loader with 2 workers holds this run back, not the step: the slowest stage is decode, "
        "and 4 workers would make clips as fast as the device takes them (this machine has 3 "
        "cores)."
    )
    assert between.startswith(
        "Of a step of the run, 70.0 ms, 50% is waiting for clips, and 7.0 ms are neither"
    )
    assert said(8)[0].startswith("The step holds this run back, not the loader with 8 workers: ")
    assert said(0)[0].startswith("Making clips in the trainer holds this run back, not the step: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "make one: python -m sce_video.shard kinetics400", id="no-shards"),
        pytest.param(["data.shard=x"], "did you mean 'data.shards'?", id="unknown-key"),
        pytest.param(["--config", "none.yaml"], "no such config", id="no-config"),
        pytest.param(
            ["data.shards=set-{0..1}.tar", "data.epoch_samples=1024", "data.split=null"],
            "tars without an index are not measured by stages",
            id="tars-without-an-index",
        ),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        (tmp_path / f"set-{number}.tar").touch()
    assert main(["bench", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1


def test_a_wrong_count_of_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--steps", "0"])
    assert caught.value.code == 2
    assert "no whole number of 1 or more" in capsys.readouterr().err
