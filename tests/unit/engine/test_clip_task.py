"""What all tasks share: runs that start from an encoder."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from sce_video.config.tasks import PretrainConfig
from sce_video.engine.clip_task import find_start, fresh_trunk, start_from
from sce_video.engine.pretrain import build_siamese
from sce_video.engine.supervised import build_classifier
from sce_video.errors import UsageError
from sce_video.model.encoder import build_encoder, encoder_spec, save_encoder
from tests.unit.engine.test_supervised import SECTIONS, supervised


def pretraining(init: Path | None = None, **sections: Any) -> PretrainConfig:
    heads = {"projector": {"hidden": 8, "dim": 4}, "predictor": {"hidden": 8}}
    tree = {**SECTIONS, "model": {**SECTIONS["model"], **heads}, "train": {"batch_size": 4}}
    tree["run"] = {"init_from": init and str(init)}
    return PretrainConfig.model_validate(tree | sections)


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
        siamese = build_siamese(
            pretraining(encoder),
            None,
            samples=9,
            epoch_steps=1,
            start=find_start(pretraining(encoder)),
        )
    assert siamese.momentum is not None
    classifier = build_classifier(supervised(), 3)
    found = find_start(pretraining(encoder))
    start_from(supervised(init=encoder), found, classifier.trunk, {"linear": classifier.linear})
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
        build_siamese(pretraining(), None, samples=9, epoch_steps=1, start=start).state_dict()
        for start in (None, find_start(pretraining(encoder)))
    )
    same = {name for name, tensor in fresh.items() if torch.equal(tensor, started[name])}
    assert same == {name for name in fresh if ".trunk." not in name}


def test_other_colours_are_said(encoder: Path, caplog: pytest.LogCaptureFixture) -> None:
    images: dict[str, Any] = {"augment": {"recipe": "imagenet_linear"}, "clip": None}
    config = supervised(init=encoder, **images)
    start_from(config, find_start(config), build_encoder(encoder_spec(config)), {})
    assert "was fed with other mean and std: ((0.45, 0.45, 0.45)" in caplog.text


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"trunk": "r3d_18", "width": 2},
            "has trunk r2plus1d_18_small, the run's r3d_18; leave out model.trunk, or take another",
        ),
        ({"trunk": "r2plus1d_18_small"}, "has width 2, the run's 64"),
        ({**SECTIONS["model"], "colour": "lab"}, "has colour rgb, the run's lab"),
    ],
    ids=["trunk", "width", "colour"],
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
        start_from(config, find_start(config), trunk, {})
    assert "left out: fc (2)" in caplog.text
    weights = theirs.state_dict()
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
