"""The whole path as a user goes it: videos, shards, pretraining, retrieval, kNN, report."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import webdataset
import yaml
from safetensors.torch import load_file

from sce_video.cli import main
from sce_video.model.classifier import load_classifier
from tests.conftest import REPOSITORY
from tests.runs import BIN, TRAIN, free_port, make_shards, run, sce_video, write_config

HERE = str(REPOSITORY)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on made videos, its shards beside it; W&B offline, as by default."""
    root = tmp_path_factory.mktemp("path")
    config = write_config(root / "tiny.yaml", make_shards(root))
    done = run(
        sys.executable,
        TRAIN,
        "--config",
        str(config),
        f"run.dir={root / 'run'}",
        WANDB_MODE="offline",
    )
    assert done.returncode == 0, done.stderr
    assert "24 videos" in done.stdout
    return root


def test_shards_are_plain_webdataset(finished: Path) -> None:
    tars = sorted(str(p) for p in (finished / "shards").glob("*.tar"))
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert len(samples) == 36
    assert {"mp4", "json"} <= set(samples[0])


def test_a_run_leaves_what_the_readme_lists(finished: Path) -> None:
    folder = finished / "run"
    names = {p.name for p in folder.iterdir()}
    assert {
        "config.yaml",
        "deepspeed.json",
        "metrics.jsonl",
        "checkpoints",
        "samples",
        "encoder.safetensors",
        "status.json",
        "wandb",
    } <= names
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert {"train/loss", "train/infonce", "train/lr", "time/step", "time/data"} <= set(rows[0])
    offline = list((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert len(offline) == 1
    assert offline[0].stat().st_size > 1000


@pytest.mark.slow
def test_export_makes_the_same_encoder_again(finished: Path, tmp_path: Path) -> None:
    done = sce_video("export", str(finished / "run"), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'encoder.safetensors'}\n"
    again = (tmp_path / "encoder.safetensors").read_bytes()
    assert again == (finished / "run/encoder.safetensors").read_bytes()


@pytest.mark.slow
def test_a_probe_and_fine_tuning_start_from_the_run(finished: Path) -> None:
    tree = {
        "data": {"shards": str(finished / "shards"), "split": "train", "workers": 1},
        "clip": {"frames": 4, "seconds": 0.6, "size": 32},
        "augment": {"recipe": "video_finetune"},
        "model": {"width": 4},
        "optim": {"name": "sgd", "lr": 0.1, "warmup_epochs": 0},
        "train": {"epochs": 2, "batch_size": 12},
        "track": {"every": 1},
    }
    (finished / "labels.yaml").write_text(yaml.safe_dump({"task": "linear", **tree}))
    start = f"run.init_from={finished / 'run'}"
    command = [TRAIN, "--config", str(finished / "labels.yaml"), start]
    launcher = [str(BIN / "deepspeed"), "--num_gpus", "2", "--master_port", free_port()]
    done = run(*launcher, *command, f"run.dir={finished / 'linear'}")
    assert done.returncode == 0, done.stderr
    assert "(classifier.safetensors, encoder.safetensors, metrics.jsonl)" in done.stdout
    assert "tensors of the trunk; 2 others start fresh" in done.stderr
    tuned = [f"run.dir={finished / 'tuned'}", "task=finetune", "run.max_steps=1"]
    done = run(sys.executable, *command, *tuned)
    assert done.returncode == 0, done.stderr
    first = load_file(finished / "run/encoder.safetensors")
    for name, same in (("linear", True), ("tuned", False)):
        weights = load_file(finished / name / "encoder.safetensors")
        assert all(torch.equal(weights[key], first[key]) for key in first) == same
        net, spec, classes = load_classifier(finished / name)
        assert (spec.width, classes) == (4, ["class0", "class1"])
        assert net(torch.zeros(2, 3, 4, 32, 32)).shape == (2, 2)
        rows = (finished / name / "metrics.jsonl").read_text().splitlines()
        assert {"train/loss", "train/top1"} <= set(json.loads(rows[0]))


def test_retrieve_knn_and_report(finished: Path) -> None:
    encoder = ("--encoder", str(finished / "run"), "--shards", str(finished / "shards"))
    few = ("--clips", "2", "--crops", "1", "--workers", "0")
    done = sce_video("retrieve", *encoder, *few)
    assert done.returncode == 0, done.stderr
    result = json.loads((finished / "run/retrieval/retrieval.json").read_text())
    assert {f"R@{k}" for k in (1, 5, 10, 15, 20, 25, 50)} | {"mAP"} <= set(result)
    assert (result["samples"], result["bank_samples"], result["missing"]) == (12, 24, 0)
    assert result["R@1"] <= result["R@5"] <= result["R@50"] == 1.0
    assert result["protocol"]["views"].startswith("2 clips x 1 crops")
    done = sce_video("knn", *encoder, *few, "--k", "24")
    assert done.returncode == 0, done.stderr
    result = json.loads((finished / "run/knn/knn.json").read_text())
    assert result["samples"] == 12
    done = sce_video("report", str(finished / "run"))
    assert done.returncode == 0, done.stderr
    page = (finished / "run/report.html").read_text()
    assert "R@20" in page
    assert "R@25" not in page  # of 24
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shard", "ucf10"], "did you mean 'ucf101'"),
        (["shard", "ucf101", "--root", "/nowhere"], "--root"),
        (["train", "--config", "demo.yaml", "optim.lrr=1"], "did you mean 'optim.lr'?"),
        (["train", "--config", "nothing.yaml"], "no such config"),
        (["train", "--config", "demo.yaml", "data.shards=/nowhere"], "python -m sce_video.shard"),
        (["train", "--config", "demo.yaml", "train.batch_size=2000"], "queue"),
        (["bench", "--config", "demo.yaml", "data.shards=/nowhere"], "no finished shard set"),
        (["retrieve", "--encoder", "/nowhere", "--shards", "/nowhere"], "no finished shard set"),
        (["report", "/nowhere"], "/nowhere"),
        (["export", "/nowhere"], "/nowhere: not a run's folder"),
        (
            ["retrieve", "--encoder", "/a", "--shards", "/b", "--clips", "0"],
            "no whole number of 1 or more",
        ),
        (["retrive"], "did you mean 'retrieve'"),
        ([], "usage"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code: object = main(arguments)
    except SystemExit as ended:  # argparse ends the process itself
        code = ended.code
    printed = capsys.readouterr()
    assert code == 2, printed.err
    assert message in printed.err + printed.out
    if arguments:
        assert len(printed.err.strip().splitlines()) == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_bare_commands_without_data_name_the_next_one(tmp_path: Path) -> None:
    shard = run(
        sys.executable, "-m", "sce_video.shard", "kinetics400", cwd=tmp_path, PYTHONPATH=HERE
    )
    assert shard.returncode == 2
    assert "--root" in shard.stderr
    train = run(sys.executable, TRAIN, cwd=tmp_path)
    assert train.returncode == 2
    assert "python -m sce_video.shard kinetics400" in train.stderr
    deepspeed = run(str(BIN / "deepspeed"), TRAIN, "optim.lrr=1", cwd=tmp_path)
    assert deepspeed.returncode == 2
    assert deepspeed.stderr.count("did you mean 'optim.lr'?") == 1


@pytest.mark.slow
def test_a_foreign_encoder_and_a_used_folder_are_refused(finished: Path) -> None:
    again = run(
        sys.executable,
        TRAIN,
        "--config",
        str(finished / "tiny.yaml"),
        f"run.dir={finished / 'run'}",
    )
    assert again.returncode == 2
    assert "run.resume=auto" in again.stderr
    wrong = sce_video(
        "retrieve",
        "--encoder",
        str(finished / "tiny.yaml"),
        "--shards",
        str(finished / "shards"),
    )
    assert wrong.returncode == 2
    assert "not an encoder" in wrong.stderr


@pytest.mark.slow
def test_bank_and_queries_must_differ(finished: Path) -> None:
    done = sce_video(
        "knn",
        "--encoder",
        str(finished / "run"),
        "--shards",
        str(finished / "shards"),
        "--bank",
        "train",
        "--queries",
        "train",
    )
    assert done.returncode == 2
    assert "train and train share 24 samples" in done.stderr


@pytest.mark.slow
def test_real_ucf101_and_kinetics_go_the_whole_path(real_data: Path, tmp_path: Path) -> None:
    shards = tmp_path / "ucf101"
    module = (sys.executable, "-m", "sce_video.shard")
    done = run(
        *module,
        "ucf101",
        "--root",
        str(real_data / "ucf101"),
        "--out",
        str(shards),
        PYTHONPATH=HERE,
    )
    assert done.returncode == 0, done.stderr
    kinetics = run(
        *module,
        "kinetics400",
        "--root",
        str(real_data / "kinetics400"),
        "--split",
        "val",
        "--out",
        str(tmp_path / "k400"),
        PYTHONPATH=HERE,
    )
    assert kinetics.returncode == 0, kinetics.stderr
    manifest = json.loads((tmp_path / "k400/manifest.json").read_text())
    assert (manifest["samples"], manifest["rejected"]["missing"]) == (8, 19_898)
    train = run(
        str(BIN / "deepspeed"),
        "--num_gpus",
        "2",
        TRAIN,
        "--config",
        "configs/demo.yaml",
        f"data.shards={shards}",
        "data.split=split1:train",
        f"run.dir={tmp_path / 'ucf'}",
        "run.max_steps=5",
    )
    assert train.returncode == 0, train.stderr
    found = sce_video(
        "retrieve",
        "--encoder",
        str(tmp_path / "ucf"),
        "--shards",
        str(shards),
        "--split",
        "1",
        "--out",
        str(tmp_path / "retrieval"),
        "--clips",
        "2",
    )
    assert found.returncode == 0, found.stderr
    result = json.loads((tmp_path / "retrieval/retrieval.json").read_text())
    assert (result["samples"], result["bank_samples"], result["missing"]) == (50, 67, 0)
    assert result["protocol"]["bank"] == "split1:train"
