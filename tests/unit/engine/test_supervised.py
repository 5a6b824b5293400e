"""Runs that start from an encoder, and runs with labels, up to the trainer."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from sce_video.config import PretrainConfig, SupervisedConfig
from sce_video.engine.clip_task import encoder_spec, find_start, fresh_trunk, start_from
from sce_video.engine.cost import cost
from sce_video.engine.pretrain import build_siamese
from sce_video.engine.preview import describe
from sce_video.engine.runtime import Runtime
from sce_video.engine.supervised import SupervisedTask, build_classifier
from sce_video.errors import UsageError
from sce_video.model.encoder import build_encoder, save_encoder
from sce_video.stream.loader import ClipBatch
from sce_video.stream.order import BatchPlan

SECTIONS: dict[str, Any] = {
    "data": {"shards": "none"},
    "clip": {"frames": 4, "seconds": 0.6, "size": 32},
    "model": {"trunk": "r2plus1d_18_small", "width": 2},
}


def supervised(task: str = "finetune", init: Path | None = None, **sections: Any) -> Any:
    tree = {**SECTIONS, "task": task, "augment": {"recipe": "video_linear"}}
    tree["run"] = {"init_from": init and str(init)}
    return SupervisedConfig.model_validate(tree | sections)


def pretraining(init: Path | None = None, **sections: Any) -> PretrainConfig:
    heads = {"projector": {"hidden": 8, "dim": 4}, "predictor": {"hidden": 8}}
    tree = {**SECTIONS, "model": {**SECTIONS["model"], **heads}, "train": {"batch_size": 4}}
    tree["run"] = {"init_from": init and str(init)}
    return PretrainConfig.model_validate(tree | sections)


def plan(config: Any, ranks: int = 1) -> BatchPlan:
    rows = np.arange(64)
    return BatchPlan(
        rows=rows,
        shard_of=0 * rows,
        digest="",
        seed=0,
        epochs=2,
        batch_size=config.train.batch_size,
        ranks=ranks,
        classes=3,
    )


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """Of other weights than any seed gives."""
    spec = encoder_spec(pretraining())
    trunk = build_encoder(spec)
    with torch.no_grad():
        for tensor in trunk.state_dict().values():
            tensor.add_(1)
    save_encoder(tmp_path / "encoder.safetensors", trunk, spec)
    return tmp_path


def test_all_networks_start_with_the_encoder_s_weights(
    encoder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = load_file(encoder / "encoder.safetensors")
    with caplog.at_level(logging.INFO, "sce_video"):
        siamese = build_siamese(pretraining(encoder), None, samples=9, epoch_steps=1)
    assert siamese.momentum is not None
    classifier = build_classifier(supervised(), 3)
    start_from(supervised(init=encoder), None, classifier.trunk, {"linear": classifier.linear})
    for trunk in (siamese.online.trunk, siamese.momentum.trunk, classifier.trunk):
        state: dict[str, torch.Tensor] = trunk.state_dict()
        assert state.keys() == given.keys()
        assert all(torch.equal(tensor, given[name]) for name, tensor in state.items())
    [line] = caplog.messages
    assert f"run.init_from={encoder}: loaded all {len(given)} tensors of the trunk; " in line
    others = len(siamese.online.state_dict()) - len(given) + len(siamese.predictor.state_dict())
    assert f"; {others} others start fresh: projector.0.weight, projector.1.weight" in line
    assert line.endswith(", ...")


def test_nothing_but_the_trunk_depends_on_where_a_run_starts(encoder: Path) -> None:
    fresh, started = (
        build_siamese(pretraining(init), None, samples=9, epoch_steps=1).state_dict()
        for init in (None, encoder)
    )
    same = {name for name, tensor in fresh.items() if torch.equal(tensor, started[name])}
    assert same == {name for name in fresh if ".trunk." not in name}


def test_a_resumed_run_needs_no_encoder_and_other_colours_are_said(
    encoder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = {"init_from": str(encoder / "gone"), "resume": True}
    assert find_start(supervised(run=gone)) is None
    images: dict[str, Any] = {"augment": {"recipe": "imagenet_linear"}, "clip": None}
    config = supervised(init=encoder, **images)
    start_from(config, None, build_encoder(encoder_spec(config)), {})
    assert "was fed with other mean and std: ((0.45, 0.45, 0.45)" in caplog.text


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"trunk": "r3d_18", "width": 2}, "has trunk r2plus1d_18_small, the run's r3d_18"),
        ({"trunk": "r2plus1d_18_small"}, "has width 2, the run's 64"),
        ({**SECTIONS["model"], "colour": "lab"}, "has colour rgb, the run's lab"),
    ],
)
def test_another_trunk_is_refused(model: dict[str, Any], message: str, encoder: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        find_start(supervised(init=encoder, model=model))
    assert f"run.init_from={encoder}" in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "shape", "more"])
def test_an_encoder_without_all_of_its_trunk_is_refused(damage: str, encoder: Path) -> None:
    path = encoder / "encoder.safetensors"
    tensors, name = load_file(path), "layer1.0.conv1.1.running_mean"
    tensors["new.weight" if damage == "more" else name] = torch.zeros(5)
    if damage == "missing":
        del tensors[name]
    header = encoder_spec(pretraining()).model_dump()
    save_file(tensors, path, {"sce_video": json.dumps(header)})
    named = "new.weight" if damage == "more" else name
    with pytest.raises(UsageError, match=rf"encoder\.safetensors: its tensors .*{named}") as caught:
        find_start(supervised(init=encoder))
    assert "\n" not in str(caught.value)


def test_an_encoder_of_two_trunks_can_be_probed(tmp_path: Path) -> None:
    objective = {"name": "cmc"}
    cmc = pretraining(objective=objective, model={**SECTIONS["model"], "predictor": None})
    spec = encoder_spec(cmc)
    save_encoder(tmp_path / "encoder.safetensors", build_encoder(spec), spec)
    config = supervised("linear", tmp_path, model={**SECTIONS["model"], "colour": "lab"})
    found = find_start(config)
    assert found is not None
    assert build_classifier(config, 3).linear.in_features == 2 * 16


def test_weights_of_another_library_start_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    config = supervised(
        run={"init_from": str(tmp_path / "resnet18.pth")},
        model={"trunk": "resnet18"},
        clip=None,
        augment={"recipe": "imagenet_linear"},
    )
    trunk = fresh_trunk(config)
    with caplog.at_level("INFO", logger="sce_video"):
        start_from(config, None, trunk, {})
    assert "left out: fc (2)" in caplog.text
    weights = theirs.state_dict()
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize("task", ["linear", "finetune"])
def test_the_loss_is_the_cross_entropy_of_a_batch(task: str) -> None:
    config = supervised(task, head={"dropout": 0.5}, train={"batch_size": 4, "precision": "fp32"})
    index: Any = SimpleNamespace(manifest=SimpleNamespace(classes=("a", "b", "c")))
    runtime = Runtime(0, 0, 1, torch.device("cpu"))
    made = SupervisedTask(config, index, plan(config), runtime)
    clips = torch.randint(256, (4, 4, 3, 32, 32), dtype=torch.uint8)
    rows, labels = np.arange(4), torch.tensor([0, 1, 2, 1])
    batch = ClipBatch([clips], rows, rows * 0, labels, names=["x"] * 4)
    assert made.picture(batch) is not None
    torch.manual_seed(3)
    outcome = made.loss(made.module, batch, 0)
    outcome.loss.backward()  # type: ignore[no-untyped-call]
    torch.manual_seed(3)
    logits = made.module(*made._views(batch)).detach().double().numpy()
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert outcome.loss.item() == pytest.approx(-np.log(shares[rows, labels]).mean(), rel=1e-5)
    right = (logits.argmax(1) == labels.numpy()).mean()
    assert outcome.parts["top1"].item() == pytest.approx(right)
    grads = {name for name, p in made.module.named_parameters() if p.grad is not None}
    everything = {name for name, _ in made.module.named_parameters()}
    assert grads == ({"linear.weight", "linear.bias"} if task == "linear" else everything)


@pytest.mark.parametrize("task", ["linear", "finetune"])
def test_the_plan_counts_what_is_trained_and_kept(task: str) -> None:
    config = supervised(task, train={"batch_size": 8}, optim={"name": "sgd"})
    need = cost(config, plan(config), bf16=False, cuda=False)
    net = build_classifier(config, 3)
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert need.trained == trained
    assert need.memory["weights"] == 4 * sum(p.numel() for p in net.parameters())
    assert need.memory["gradients"] == 4 * trained
    clip = torch.randn(8, 3, 4, 32, 32)
    own = {x.untyped_storage().data_ptr() for x in (*net.parameters(), *net.buffers(), clip)}
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        held = net(clip)  # its graph keeps what was packed
    assert held.shape == (8, 3)
    assert need.memory["activations"] == pytest.approx(clip.nbytes + sum(kept.values()), rel=0.02)
    other = supervised("finetune" if task == "linear" else "linear", train={"batch_size": 8})
    ratio = need.flops / cost(other, plan(other), bf16=False, cuda=False).flops
    assert ratio == pytest.approx(1 / 3 if task == "linear" else 3)
    sent = cost(config, plan(config, 2), bf16=False, cuda=False).sent
    assert (sent["SyncBN"] > 0) == (task == "finetune")
    text = describe(config, plan(config), cuda=False)
    trunk = "frozen" if task == "linear" else "trained"
    assert f"head       linear layer of 3 classes, dropout 0, on the {trunk} trunk" in text
    assert "start      random weights" in text
