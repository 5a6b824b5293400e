"""Training that is watched: the numbers are there, and the training does not know."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import pytest
import torch

from sce_video.cli import main
from sce_video.config.load import load_config
from sce_video.config.tasks import PretrainConfig, SupervisedConfig
from sce_video.engine.pretrain import PretrainTask
from sce_video.engine.supervised import SupervisedTask
from sce_video.evals.online import WatchedTrunk, watch
from sce_video.model.classifier import load_classifier
from sce_video.model.encoder import build_encoder
from sce_video.shardset.index import ShardIndex
from sce_video.stream.data import open_data, open_held_out
from sce_video.stream.order import BatchPlan
from tests.runs import BIN, TRAIN, final_state, free_port, make_shards, run, write_config
from tests.unit.evals.small_set import (
    CLASSES,
    SPEC,
    make_other_set,
    make_set,
    random_encoder,
    random_run,
    rank,
)

WATCHED = ("eval.every=1", "eval.split=test", "eval.knn=3")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("online")
    return write_config(root / "tiny.yaml", make_shards(root))


def train(config: Path, name: str, *more: str, command: tuple[str, ...] = ()) -> Path:
    folder = config.parent / name
    start = command or (sys.executable, TRAIN)
    keys = (f"run.dir={folder}", "train.epochs=2", "track.wandb=off", *more)
    done = run(*start, "--config", str(config), *keys)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def watched(config: Path) -> Path:
    return train(config, "watched", *WATCHED)


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Rows of ``metrics.jsonl`` that have values of a kind, those alone."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    chosen = [{k: v for k, v in line.items() if k.startswith(kind)} for line in lines]
    return [row for row in chosen if row]


@pytest.mark.slow
def test_training_is_the_same_bit_for_bit(config: Path, watched: Path) -> None:
    alone = final_state(train(config, "alone", "eval.linear=false"))
    state = final_state(watched)
    probe = {name for name in state if name.startswith("probe.")}
    assert probe == {"probe.weight", "probe.first", "probe.second", "probe.steps"}
    assert state.keys() - probe == alone.keys()
    for name, tensor in alone.items():
        assert torch.equal(state[name], tensor), name


def test_held_out_samples_are_looked_at_each_epoch(watched: Path) -> None:
    looks = rows(watched, "eval/")
    assert len(looks) == 2
    for look in looks:
        assert (look["eval/samples"], look["eval/missing"]) == (12, 0)
        assert 0 <= look["eval/knn_top1"] <= 1
        assert 0 <= look["eval/probe_top1"] <= 1
    steps = rows(watched, "train/probe")
    assert len(steps) == 4
    assert all(row["train/probe_loss"] > 0 for row in steps)
    assert int(final_state(watched)["probe.steps"]) == 4


@pytest.mark.slow
def test_resumed_probe(config: Path, watched: Path) -> None:
    folder = train(config, "resumed", *WATCHED, "run.max_steps=2", "train.save_every=1")
    train(config, "resumed", *WATCHED, "run.resume=true")
    for name, tensor in final_state(watched).items():
        assert torch.equal(final_state(folder)[name], tensor), name
    assert rows(folder, "eval/")[-1] == rows(watched, "eval/")[-1]


@pytest.mark.slow
def test_on_two_ranks(config: Path, watched: Path) -> None:
    """With weights that ZeRO-3 takes away between steps."""
    launcher = (str(BIN / "torchrun"), "--nproc-per-node", "2", "--master-port", free_port(), TRAIN)
    stage = "deepspeed.zero_optimization.stage=3"
    folder = train(config, "ranks", *WATCHED, stage, command=launcher)
    assert len(rows(folder, "eval/")) == 2
    assert all(row["eval/samples"] == 12 for row in rows(folder, "eval/"))
    mine, others = final_state(watched)["probe.weight"], final_state(folder)["probe.weight"]
    torch.testing.assert_close(mine, others, rtol=1e-2, atol=1e-3)  # rounding, grown by the network


def learn(config: Path, name: str, task: str, *more: str, command: tuple[str, ...] = ()) -> Path:
    """A run with labels, of the shipped config for any encoder."""
    folder, shards = config.parent / name, config.parent / "shards"
    encoder = random_encoder(config.parent / "encoder")
    keys = (f"run.dir={folder}", f"run.init_from={encoder}", f"data.shards={shards}")
    few = ("train.epochs=2", "train.batch_size=12", "data.workers=1", "track.wandb=off")
    done = run(
        *(command or (sys.executable, TRAIN)), "--config", f"{task}/own.yaml", *keys, *few, *more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def as_tested(folder: Path, *more: str) -> dict[str, float]:
    """What ``test`` finds on one centre view."""
    one = ["--clips", "1", "--crops", "1", "--workers", "0", "--out", str(folder / "one")]
    assert main(["test", str(folder), *one, *more]) == 0
    found = json.loads((folder / "one/test.json").read_text())
    return {f"eval/{name}": found[name] for name in ("samples", "missing", "top1", "top5")}


@pytest.mark.slow
def test_training_with_labels_is_watched_by_the_test_s_protocol(config: Path) -> None:
    """And is the same bit for bit."""
    held_out = WATCHED[:2]
    folder = learn(config, "labelled", "finetune", *held_out)
    looks = rows(folder, "eval/")
    assert len(looks) == 2
    assert looks[-1] == as_tested(folder)
    state, alone = final_state(folder), final_state(learn(config, "unwatched", "finetune"))
    assert state.keys() == alone.keys()
    for name, tensor in alone.items():
        assert torch.equal(state[name], tensor), name


@pytest.mark.slow
def test_a_classifier_is_asked_by_the_names_of_classes(tmp_path: Path) -> None:
    """As ``test`` asks it, which has no other numbers."""
    make_set(tmp_path, each=3)
    make_other_set(tmp_path, CLASSES[1:])
    folder = random_run(tmp_path / "run", tmp_path / "shards", split="train")
    module = load_classifier(folder)[0]
    seen = []
    for name in ("shards", "Bowling-Diving"):
        where = [f"eval.shards={tmp_path / name}", "eval.split=test", "eval.every=1"]
        keys = ["clip={frames: 2, seconds: 0.6, size: 16}", f"data.shards={tmp_path / 'shards'}"]
        config = load_config("linear/own.yaml", [*keys, *where, "train.batch_size=3"])
        assert isinstance(config, SupervisedConfig)
        index, plan = open_data(config, 0, 1)
        found = open_held_out(config, plan, index)
        task = SupervisedTask.__new__(SupervisedTask)
        task.config, task.spec, task.module, task.steps_per_epoch = config, SPEC, module, 4
        assert found is not None
        evaluation = watch(task, found, rank(0, 1))
        assert evaluation.every == 4
        with patch("torch.distributed.all_gather_object", _alone):
            look = evaluation()
        other = ["--shards", str(tmp_path / name), "--split", "test"]
        assert {f"eval/{key}": value for key, value in look.items()} == as_tested(folder, *other)
        seen.append(look["top1"])
    assert seen[0] != seen[1]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["linear", "finetune"])
def test_labels_on_two_ranks(task: str, config: Path) -> None:
    """With weights that ZeRO-3 takes away between steps."""
    launcher = (str(BIN / "torchrun"), "--nproc-per-node", "2", "--master-port", free_port(), TRAIN)
    stage = "deepspeed.zero_optimization.stage=3"
    folder = learn(config, f"{task}-ranks", task, *WATCHED[:2], stage, command=launcher)
    assert len(rows(folder, "eval/")) == 2
    assert rows(folder, "eval/")[-1] == as_tested(folder)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["eval.every=1"], "go together"),
        (["eval.split=test"], "go together"),
        (["eval.every=1", "eval.split=train"], "shares 24 samples with what is trained on"),
        pytest.param(["eval.every=1", "eval.split=tset"], "tset", marks=pytest.mark.slow),
    ],
    ids=["no-split", "no-interval", "trained-on", "unknown"],
)
def test_mistakes(keys: list[str], message: str, config: Path, tmp_path: Path) -> None:
    done = run(sys.executable, TRAIN, "--config", str(config), f"run.dir={tmp_path / 'x'}", *keys)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_probe_is_asked_by_the_names_of_classes(tmp_path: Path) -> None:
    """A held-out set of two of three classes numbers them otherwise."""
    make_set(tmp_path, each=3)
    make_other_set(tmp_path, CLASSES[1:])
    trunk, says = build_encoder(SPEC), torch.eye(3)[2]  # Diving, of all
    probe = SimpleNamespace(weight=torch.zeros(1), logits=lambda x: says.expand(len(x), 3))
    module = SimpleNamespace(probe=probe)
    keys = ["data.workers=0", "eval.every=1", "eval.split=test", "eval.knn=1"]
    for name, share in (("shards", 1 / 3), ("Bowling-Diving", 1 / 2)):
        shards = [f"data.shards={tmp_path / 'shards'}", f"eval.shards={tmp_path / name}"]
        config = cast("PretrainConfig", load_config("demo.yaml", [*keys, *shards]))
        plan = cast("BatchPlan", SimpleNamespace())
        index = cast("ShardIndex", SimpleNamespace(manifest=SimpleNamespace(classes=CLASSES)))
        found = open_held_out(config, plan, index)
        task = SimpleNamespace(
            config=config,
            steps_per_epoch=1,
            spec=SPEC,
            module=module,
            trunk=lambda: trunk,
            stopped=lambda: False,
        )
        assert found is not None
        evaluation = WatchedTrunk(cast("PretrainTask", task), found, rank(0, 1))
        with patch("torch.distributed.all_gather_object", _alone):
            assert evaluation()["probe_top1"] == pytest.approx(share)


def test_what_is_not_finite_is_warned_of_and_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is seen by a look beside the training, which goes on."""
    make_set(tmp_path, each=3)
    trunk = build_encoder(SPEC)
    scores = torch.full((3, 3), torch.nan)
    probe = SimpleNamespace(weight=torch.zeros(1), logits=lambda _: scores)
    keys = ["data.workers=0", "eval.every=1", "eval.split=test", "eval.knn=1"]
    config = cast(
        "PretrainConfig",
        load_config("demo.yaml", [*keys, f"data.shards={tmp_path / 'shards'}"]),
    )
    index = cast("ShardIndex", SimpleNamespace(manifest=SimpleNamespace(classes=CLASSES)))
    found = open_held_out(config, cast("BatchPlan", SimpleNamespace()), index)
    assert found is not None
    task = SimpleNamespace(
        config=config,
        steps_per_epoch=1,
        spec=SPEC,
        module=SimpleNamespace(probe=probe),
        trunk=lambda: trunk,
        stopped=lambda: False,
    )
    evaluation = WatchedTrunk(cast("PretrainTask", task), found, rank(0, 1))
    with patch("torch.distributed.all_gather_object", _alone), caplog.at_level("WARNING"):
        assert evaluation().keys() == {"samples", "missing", "knn_top1"}
        assert "the probe's scores are not finite" in caplog.text
        caplog.clear()
        for parameter in trunk.parameters():
            parameter.data.fill_(torch.nan)
        assert evaluation() == {}
    assert "held-out samples: the network in training: gives values that are not" in caplog.text


def _alone(parts: list[Any], own: Any) -> None:
    parts[0] = own
