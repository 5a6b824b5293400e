"""``sce-video test``: figures, files, missing samples, what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sce_video.augment.ops import normalise
from sce_video.cli import main
from sce_video.engine.checkpoint import save
from sce_video.evals import embed, request
from sce_video.evals.classification import write_spread
from sce_video.evals.views import eval_views
from sce_video.files import sha256_file
from sce_video.lock import LOCK_NAME, Lock
from sce_video.model.classifier import load_classifier
from sce_video.shardset.index import open_shards
from sce_video.stream.cut import make_clips
from sce_video.stream.reader import ShardReader
from tests.servers import serving
from tests.unit.evals.small_set import CLASSES, FEW, make_other_set, make_set, random_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("test")
    make_set(folder)
    return folder


@pytest.fixture(scope="module")
def tested(root: Path) -> Path:
    """A run that was tested, which the first test looks at in the same way."""
    run = random_run(root / "tested", root / "shards")
    assert main(["test", str(run), *FEW]) == 0
    return run


def predictions(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    return {line["key"]: line for line in map(json.loads, lines)}


def test_figures_and_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = random_run(root / "run", root / "shards")
    assert main(["test", str(run), *FEW]) == 0
    shown = capsys.readouterr().out
    out = run / "test"
    result = json.loads((out / "test.json").read_text())
    assert (result["samples"], result["missing"], result["missing_samples"]) == (6, 0, [])
    protocol = result["protocol"]
    assert protocol["split"] == "split:test"
    assert protocol["views"] == "2 clips x 3 crops"
    assert protocol["classifier_sha256"] == sha256_file(run / "classifier.safetensors")
    index = open_shards(root / "shards")
    assert protocol["manifest_sha256"] == index.digest
    lines = predictions(out)
    assert sorted(lines) == sorted(index.strings("key")[row] for row in index.rows("test"))
    right = [line["predicted"] == line["label"] for line in lines.values()]
    assert result["top1"] == pytest.approx(np.mean(right))
    assert f"top1 {result['top1']:.4f}" in shown
    assert result["top5"] == 1.0  # of three classes
    with (out / "per_class.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [row["class"] for row in table] == list(CLASSES)
    assert [row["samples"] for row in table] == ["2", "2", "2"]
    assert sum(int(row["right"]) for row in table) == sum(right)
    assert result["mean_class_accuracy"] == pytest.approx(
        np.mean([float(r["top1"]) for r in table])
    )
    Image.open(out / "confusion.png").verify()


def test_scores_are_the_mean_softmax_of_a_videos_own_views(root: Path, tested: Path) -> None:
    module, spec, _ = load_classifier(tested / "classifier.safetensors")
    reader = ShardReader(index := open_shards(root / "shards"))
    views = eval_views(spec, 2, 3, None)
    stats = [torch.tensor(x) for x in (spec.mean, spec.std)]
    for row in index.rows("test").tolist():
        total = np.zeros(3)
        for clip in make_clips(reader.media(row), views(reader.video(row), 0, row)):
            with torch.no_grad():
                logits = module(normalise(clip[None].float() / 255, *stats))[0].double().numpy()
            total += np.exp(logits) / np.exp(logits).sum()
        line = predictions(tested / "test")[index.strings("key")[row]]
        found = dict(line["top5"])
        np.testing.assert_allclose([found[c] for c in CLASSES], total / 6, atol=2e-5)
        assert line["predicted"] == int(total.argmax())
        assert line["class"] == index.strings("class")[row]


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(CLASSES, marks=pytest.mark.slow),
        ("Diving", "Aaa", "Archery", "Bowling"),
    ],
)
def test_a_set_of_other_numbers_is_matched_by_name(root: Path, known: tuple[str, ...]) -> None:
    """A set of two of the classes numbers them otherwise than the one that was trained on."""
    name = "run-" + "-".join(known)
    run = random_run(root / name, root / "shards", classes=known)
    assert main(["test", str(run), *FEW]) == 0
    whole = predictions(run / "test")
    for classes in (("Bowling", "Diving"), CLASSES):
        other = root / "shards" if classes == CLASSES else root / "-".join(classes)
        if not other.exists():
            make_other_set(root, classes)
        out = root / f"{name}-on-{other.name}"
        command = ["test", str(run), *FEW, "--shards", str(other), "--out", str(out)]
        assert main([*command, "--split", "test"]) == 0
        lines = predictions(out)
        expected = {key: line for key, line in whole.items() if line["class"] in classes}
        assert lines == expected
        assert all(known[line["label"]] == line["class"] for line in lines.values())
        result = json.loads((out / "test.json").read_text())
        right = [known[line["predicted"]] == line["class"] for line in expected.values()]
        assert result["top1"] == pytest.approx(np.mean(right))
        with (out / "per_class.csv").open() as stream:
            counts = {row["class"]: int(row["samples"]) for row in csv.DictReader(stream)}
        assert counts == {name: 2 * (name in classes) for name in known}
        matched = f"the set's {len(classes)} by name among the classifier's {len(known)}"
        protocol = result["protocol"]
        assert protocol.get("classes") == (None if classes == known else matched)


@pytest.mark.slow
def test_missing_samples_are_counted_and_strict_fails(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = random_run(root / "missing", root / "shards")
    broken = root / "broken"
    shutil.copytree(root / "shards", broken)
    index = open_shards(broken)
    row = int(index.rows("test")[2])
    key = index.strings("key")[row]
    tar = broken / index.strings("shard")[row]
    data = bytearray(tar.read_bytes())
    start = int(index.numbers("media_offset")[row])
    data[start : start + int(index.numbers("media_size")[row])] = bytes(
        int(index.numbers("media_size")[row])
    )
    tar.write_bytes(data)
    command = ["test", str(run), *FEW, "--shards", str(broken), "--out", str(root / "out")]
    assert main(command) == 0
    result = json.loads((root / "out/test.json").read_text())
    assert (result["samples"], result["missing"]) == (5, 1)
    assert key in result["missing_samples"][0]
    assert f"{key}): " in capsys.readouterr().out
    assert key not in predictions(root / "out")
    assert not (run / "test").exists()
    assert main([*command, "--strict"]) == 3


def test_scores_are_kept_and_shared_by_ranks(
    root: Path, tested: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = random_run(root / "ranks", root / "shards")
    capsys.readouterr()
    monkeypatch.setattr(request, "cut", lambda rows, _: [rows[i : i + 2] for i in (0, 2, 4)])
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")  # takes two batches of three
    assert main(["--local_rank=1", "test", str(run), *FEW]) == 0
    assert capsys.readouterr() == ("", "")
    assert not (run / "test").exists()
    monkeypatch.setenv("RANK", "0")
    assert main(["--local_rank=0", "test", str(run), *FEW]) == 0
    assert predictions(run / "test") == predictions(tested / "test")
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    with patch.object(embed, "extract_batches", side_effect=AssertionError("decoded")):
        assert main(["test", str(run), *FEW]) == 0


def test_a_result_of_another_test_is_not_replaced(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = random_run(root / "again", root / "shards")
    assert main(["test", str(run), *FEW]) == 0
    assert main(["test", str(run), *FEW, "--crops", "1"]) == 2
    error = capsys.readouterr().err
    assert f"{run / 'test/test.json'}: is the result of another evaluation (views " in error
    assert main(["test", str(run), *FEW, "--crops", "1", "--out", str(root / "one")]) == 0
    assert main(["test", str(run), *FEW]) == 0


def test_several_runs_give_their_mean_and_spread(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(random_run(root / f"s{seed}", root / "shards", seed=seed)) for seed in (1, 2)]
    assert main(["test", *runs, *FEW, "--out", str(root / "mean")]) == 0
    found = [json.loads((Path(run) / "test/test.json").read_text()) for run in runs]
    result = json.loads((root / "mean/mean.json").read_text())
    assert result["runs"] == found
    assert result["top1"]["mean"] == pytest.approx(np.mean([one["top1"] for one in found]))
    assert f"top1 {result['top1']['mean']:.4f} ± " in capsys.readouterr().out


def test_runs_of_another_task_or_set_have_no_mean(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [random_run(root / name, root / "shards") for name in ("linear", "finetune")]
    config = runs[1] / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("task: linear", "task: finetune"))
    assert main(["test", *map(str, runs), *FEW]) == 2
    error = capsys.readouterr().err
    assert f"{runs[1]}: finetune on " in error
    assert f"has no mean with {runs[0]} (linear on " in error
    shutil.copytree(root / "shards", root / "other")
    manifest = root / "other/manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "dataset": "another"}))
    config.write_text(text.replace(str(root / "shards"), str(root / "other")))
    assert main(["test", *map(str, runs), *FEW]) == 2
    assert "linear on another has no mean with" in capsys.readouterr().err
    assert not any((run / "features").exists() for run in runs)


def test_the_spread_is_the_sample_standard_deviation(tmp_path: Path) -> None:
    figures = [{"top1": x, "top5": 1.0, "mean_class_accuracy": x / 2} for x in (0.5, 0.7, 0.6)]
    assert write_spread(figures, tmp_path)["top1"] == {
        "mean": pytest.approx(0.6),
        "std": pytest.approx(0.1),
    }


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, ["--split", "train"], "was trained on 12 of the 12 samples of train"),
        ({"split": None}, [], "was trained on 6 of the 6 samples of split:test"),
        ({"split": "test"}, [], "was trained on 6 of the 6"),
        ({}, ["--split", "2"], "no test or val list in column 'split2'; columns: split"),
        ({"classes": ("a", "b", "c")}, [], "3 of its classes are not among the 3 of"),
        ({"classes": CLASSES[:2]}, [], "1 of its classes are not among the 2 of"),
    ],
    ids=["train", "whole-set", "test", "no-list", "other-classes", "fewer-classes"],
)
def test_what_would_give_a_wrong_figure_is_refused(
    root: Path,
    change: dict[str, Any],
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = random_run(root / "wrong", root / "shards", **change)
    assert main(["test", str(run), *FEW, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (run / "test").exists()


def stopped_run(folder: Path, shards: Path, *steps: int, **settings: Any) -> Path:
    """A run as :func:`random_run` that was stopped: of three steps an epoch, 200 epochs."""
    run = random_run(folder, shards, **settings)
    (run / "encoder.safetensors").unlink()
    tensors = load_file(run / "classifier.safetensors")
    (run / "classifier.safetensors").unlink()
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        config.replace("batch_size: 512", "batch_size: 4")
        .replace("trunk: r2plus1d_18\n", "trunk: r2plus1d_18_small\n")
        .replace("width: 64", "width: 4")
    )
    for step in steps:
        files = {"model.safetensors": tensors, "optimizer.safetensors": {}}
        state = {"step": step, "run_id": "abc", "data": open_shards(shards).digest}
        save(run / "checkpoints", files, state, keep=9)
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        tensors["linear.bias"] += 100 * torch.eye(len(tensors["linear.bias"]))[0]
    return run


def test_a_run_that_was_stopped_is_tested_at_its_newest_checkpoint(
    root: Path, tested: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped_run(root / "stopped", root / "shards", 7, 8)
    assert main(["test", str(run), *FEW]) == 0
    found = json.loads((run / "test/test.json").read_text())
    newest = run / "checkpoints/step-00000008"
    assert found["protocol"] == {
        **json.loads((tested / "test/test.json").read_text())["protocol"],
        "checkpoint": "step-00000008, the newest of a run that has not ended",
        "step": "8 of 600",
        "epoch": "2.667 of 200",
        "classifier": str(newest / "model.safetensors"),
        "classifier_sha256": sha256_file(newest / "model.safetensors"),
    }
    assert {line["predicted"] for line in predictions(run / "test").values()} == {0}
    said = ", of a run that has not ended: step 8 of 600, epoch 2.667 of 200: "
    assert said in capsys.readouterr().out
    # The one before has the weights of the run that ended.
    (newest / "model.safetensors").write_bytes(b"damaged")
    assert main(["test", str(run), *FEW]) == 0
    captured = capsys.readouterr()
    assert f"passing over {newest}: model.safetensors is not what" in captured.err
    assert "step 7 of 600" in captured.out
    assert predictions(run / "test") == predictions(tested / "test")
    other = random_run(root / "ended", root / "shards")
    assert main(["test", str(run), str(other), *FEW, "--out", str(root / "mixed")]) == 0
    assert "mean of 2 runs, 1 not ended: " in capsys.readouterr().out
    (run / "checkpoints/step-00000007/state.json").unlink()
    assert main(["test", str(run), *FEW]) == 1
    assert "and none of its checkpoints verifies" in capsys.readouterr().err


def test_a_classifier_is_the_last_unless_its_run_went_on(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped_run(root / "went-on", root / "shards", 8)
    random_run(root / "left", root / "shards")
    shutil.copy(root / "left/classifier.safetensors", run)
    for state, marked in (("interrupted", True), ("running", True), ("done", False)):
        (run / "status.json").write_text(json.dumps({"state": state, "step": 8}))
        assert main(["test", str(run), *FEW]) == 0
        assert ("step 8 of 600" in capsys.readouterr().out) == marked
    (run / "status.json").write_text("[")
    assert main(["test", str(run), *FEW]) == 0
    assert "has not ended" not in capsys.readouterr().out


def test_a_run_that_is_being_trained_is_tested_by_one_process(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several would wait for each other's share of other checkpoints' scores."""
    run = stopped_run(root / "goes-on", root / "shards", 8)
    with Lock(run / LOCK_NAME, lambda: None):
        assert main(["test", str(run), *FEW]) == 0
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "0")
        assert main(["--local_rank=0", "test", str(run), *FEW]) == 2
        assert f"{run}: is being trained" in capsys.readouterr().err


def test_classes_of_a_checkpoint_are_those_of_its_set(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped_run(root / "classes", root / "shards", 8)
    other = root / "Bowling-Diving"
    other = other if other.exists() else make_other_set(root, ("Bowling", "Diving"))
    command = ["test", str(run), *FEW, "--split", "test", "--out", str(root / "of-two")]
    assert main([*command, "--shards", str(other)]) == 0
    found = json.loads((root / "of-two/test.json").read_text())
    assert found["protocol"]["classes"] == "the set's 2 by name among the classifier's 3"
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(root / "shards"), str(other)))
    capsys.readouterr()
    assert main([*command, "--shards", str(other)]) == 2
    assert "is not the set that step-00000008 was trained on" in capsys.readouterr().err
    shutil.copytree(root / "shards", root / "moved")
    assert main([*command, "--shards", str(root / "moved")]) == 0


@pytest.mark.parametrize("stopped", [False, True])
def test_an_address_out_of_a_run_is_not_asked(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stopped: bool,
) -> None:
    monkeypatch.setenv("SCE_VIDEO_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    run = stopped_run(run, root / "shards", 8) if stopped else random_run(run, root / "shards")
    config, other = run / "config.yaml", tmp_path / "other"
    shutil.copytree(root / "shards", other)
    (other / "manifest.json").write_text((other / "manifest.json").read_text() + " ")
    with serving(root / "shards") as server:
        config.write_text(config.read_text().replace(str(root / "shards"), server.url))
        line = (
            f"sce-video: {run}: names the set {server.url}; what a file names is not asked: give "
            "--shards URL to test there\n"
        )
        assert main(["test", str(run), *FEW]) == 2
        assert capsys.readouterr().err == line
        if stopped:  # its classes are those of the set that it was trained on
            assert main(["test", str(run), *FEW, "--split", "test", "--shards", str(other)]) == 2
            assert line in capsys.readouterr().err
        assert not server.gets
        assert main(["test", str(run), *FEW, "--shards", server.url]) == 0
        assert server.gets["manifest.json"] == 1
    assert json.loads((run / "test/test.json").read_text())["protocol"]["shards"] == server.url


def test_no_classifier_and_a_run_twice(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = random_run(root / "twice", root / "shards")
    assert main(["test", str(run), str(run / "../twice")]) == 2
    assert "a run is given twice" in capsys.readouterr().err
    assert main(["test", str(root / "nope")]) == 2
    assert f"{root / 'nope'}: no such folder" in capsys.readouterr().err
    assert main(["test", str(root)]) == 2
    assert f"{root}: not a run's folder, it has no config.yaml" in capsys.readouterr().err
    (run / "classifier.safetensors").unlink()
    assert main(["test", str(run)]) == 2
    error = capsys.readouterr().err
    assert f"{run}: has neither classifier.safetensors nor a checkpoint; give a run" in error
    (run / "config.yaml").write_text("data: {shards: mine}")
    assert main(["test", str(run)]) == 2
    assert f"{run}: is of task pretrain; give a run of task linear" in capsys.readouterr().err


def test_scores_that_are_not_finite_are_an_error(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = random_run(root / "nan", root / "shards", seed=-1)
    assert main(["test", str(run), *FEW]) == 1
    error = capsys.readouterr().err
    assert f"{run / 'classifier.safetensors'}: weights that are not finite: linear.bias" in error
    assert not list(run.rglob("test.json")) + list(run.rglob("features.safetensors"))
