"""One run, whatever starts it and however it is sharded; resume continues it exactly."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sce_video.model.encoder import load_encoder
from sce_video.shardset.index import open_shards
from tests.conftest import REPOSITORY
from tests.jobs import LAUNCHERS
from tests.runs import (
    BIN,
    TRAIN,
    environment,
    final_state,
    free_port,
    make_shards,
    relative_difference,
    run,
    sce_video,
    write_config,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ranks")
    return write_config(root / "tiny.yaml", make_shards(root))


@pytest.fixture(scope="module")
def alone(config: Path) -> Path:
    """Eight steps on one rank with ZeRO-0."""
    return train(config, "alone", [sys.executable, "-m", "sce_video.train"], stage=0)


def train(
    config: Path, name: str, command: list[str], *more: str, stage: int = 1, cwd: Path = REPOSITORY
) -> Path:
    folder = config.parent / name
    overrides = [f"run.dir={folder}", f"deepspeed.zero_optimization.stage={stage}", *more]
    done = run(*command, "--config", str(config), *overrides, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((folder / "status.json").read_text())["state"] == "done"
    return folder


@pytest.fixture(scope="module")
def two_ranks(config: Path) -> Path:
    """The same on two ranks with ZeRO-1, under the deepspeed launcher."""
    return train(config, "deepspeed", LAUNCHERS["deepspeed"])


@pytest.mark.slow
def test_two_ranks_equal_one(two_ranks: Path, alone: Path) -> None:
    # This small network amplifies a rounding error about a hundredfold a step; a gradient that
    # is not averaged, a norm of half a parameter or a BN that is not synced shows as order one.
    assert relative_difference(final_state(two_ranks), final_state(alone)) < 0.2


@pytest.mark.slow
def test_zero_2_under_torchrun_equals_zero_1(config: Path, two_ranks: Path) -> None:
    folder = train(config, "torchrun", LAUNCHERS["torchrun"], stage=2)
    assert relative_difference(final_state(folder), final_state(two_ranks)) < 1e-6


@pytest.mark.slow
def test_accumulation_enqueues_once_a_step(config: Path, alone: Path) -> None:
    folder = train(config, "accumulated", [sys.executable, TRAIN], "train.accumulate=2")
    queue = final_state(folder)["objective.queue.keys"]
    assert int(final_state(folder)["objective.queue.pointer"]) == int(
        final_state(alone)["objective.queue.pointer"]
    )
    torch.testing.assert_close(queue.norm(dim=0), torch.ones(queue.shape[1]))


@pytest.mark.slow
def test_plain_python_from_another_folder_and_resume_is_bit_exact(
    config: Path, tmp_path: Path
) -> None:
    plain = [sys.executable, TRAIN]
    whole = train(config, "whole", plain, cwd=tmp_path)
    part = train(config, "part", plain, "run.max_steps=3", cwd=tmp_path)
    again = run(
        *plain,
        "--config",
        str(config),
        f"run.dir={part}",
        "run.resume=true",
        cwd=tmp_path,
    )
    assert again.returncode == 0, again.stderr
    a, b = final_state(whole), final_state(part)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    rows = [json.loads(line) for line in (part / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.slow
def test_a_signal_saves_and_says_so(config: Path) -> None:
    folder = config.parent / "stopped"
    command = [sys.executable, TRAIN, "--config", str(config), f"run.dir={folder}"]
    process = subprocess.Popen(
        [*command, "train.epochs=2000"], env=environment(), stderr=subprocess.PIPE, text=True
    )
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.is_file() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "run.resume=auto" in errors.strip().splitlines()[-1]
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "interrupted"
    assert status["checkpoint"] == f"step-{status['step']:08d}"
    assert not (folder / "encoder.safetensors").exists()
    exported = sce_video("export", str(folder))
    assert exported.returncode == 0, exported.stderr
    trunk, _ = load_encoder(folder)
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(tensor, final_state(folder)[f"online.trunk.{name}"])


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(config: Path, alone: Path) -> None:
    folder = config.parent / "damaged"
    train(config, "damaged", [sys.executable, TRAIN], "run.max_steps=5")
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    with (newest / "model.safetensors").open("r+b") as stream:
        stream.seek(2000)
        stream.write(b"\xff\xff\xff\xff")
    done = run(
        sys.executable,
        TRAIN,
        "--config",
        str(config),
        f"run.dir={folder}",
        "run.resume=true",
    )
    assert done.returncode == 0, done.stderr
    assert f"passing over {newest}" in done.stderr
    assert relative_difference(final_state(folder), final_state(alone)) < 1e-6


@pytest.mark.slow
def test_a_non_finite_loss_stops_before_the_step(config: Path) -> None:
    folder = config.parent / "nan"
    done = run(
        sys.executable,
        TRAIN,
        "--config",
        str(config),
        f"run.dir={folder}",
        "optim.lr=4.0e+9",
        "train.save_every=1",
    )
    assert done.returncode == 1, done.stderr[-3000:]
    assert "is not finite: see" in done.stderr.strip().splitlines()[-1]
    assert "not finite: samples" in (folder / "run.log").read_text()
    assert json.loads((folder / "status.json").read_text())["state"] == "failed"
    for name, tensor in final_state(folder).items():
        assert torch.isfinite(tensor).all(), name


@pytest.mark.slow
def test_many_bad_samples_end_the_run_with_a_summary(config: Path, tmp_path: Path) -> None:
    """Counted over both ranks: neither alone meets more than the ten that are always allowed."""
    shutil.copytree(config.parent / "shards", tmp_path / "shards")
    index = open_shards(tmp_path / "shards")
    [tar] = sorted((tmp_path / "shards").glob("*.tar"))
    with tar.open("r+b") as file:
        for row in index.rows("train")[:12]:
            file.seek(int(index.numbers("idx_offset")[row]))
            file.write(b"lost")
    done = run(
        str(BIN / "deepspeed"),
        "--num_gpus",
        "2",
        "--master_port",
        free_port(),
        TRAIN,
        "--config",
        str(config),
        f"data.shards={tmp_path}/shards",
        f"run.dir={tmp_path}/run",
    )
    assert done.returncode == 1, done.stderr[-3000:]
    [line] = [line for line in done.stderr.splitlines() if "samples were bad" in line]
    [(bad, seen, reasons)] = re.findall(
        r"(\d+) of (\d+) samples were bad .*: (\d+) x no packet index;", line
    )
    assert bad == reasons
    assert 11 <= int(bad) <= int(seen)
    log = (tmp_path / "run" / "run.log").read_text()
    assert log.count("folder-000000.tar/") == int(bad)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["checkpoint"] == f"step-{status['step']:08d}"  # what it did is not lost
