"""Encoders of others are recognised, loaded completely or refused, and give their features."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from pytorchvideo.models.resnet import create_resnet
from safetensors.torch import save_file
from torch import Tensor, nn

from sce_video.errors import SceVideoError, UsageError
from sce_video.model.encoder import EncoderSpec, save_encoder
from sce_video.model.trunks import build_trunk
from sce_video.model.weights import encoder_file, open_encoder
from tests.conftest import GOLDEN
from tests.unit.model.layouts import OPEN, OTHER, R18, expected, under


def without_fc(model: Any) -> nn.Module:
    model.fc = nn.Identity()
    network: nn.Module = model.eval()
    return network


def random_weights(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Tensors with a network's names and shapes, without the time that its own would take."""
    with torch.device("meta"):
        shapes = build().state_dict()
    return {
        key: torch.rand(t.shape) if t.dim() else torch.zeros((), dtype=t.dtype)
        for key, t in shapes.items()
    }


@pytest.mark.parametrize("name", ["resnet18", pytest.param("r2plus1d_18", marks=pytest.mark.slow)])
def test_fresh_networks_are_those_of_torchvision(name: str) -> None:
    video = name == "r2plus1d_18"
    build: Callable[[], nn.Module] = getattr(
        torchvision.models.video if video else torchvision.models, name
    )
    encoder = open_encoder(f"torchvision:{name}", seed=3)
    torch.manual_seed(3)
    theirs = without_fc(build())
    clip = torch.randn(2, 3, 4 if video else 1, 32, 32)
    with torch.no_grad():
        expected = theirs(clip if video else clip[:, :, 0])
        torch.testing.assert_close(encoder.trunk(clip), expected)
    assert encoder.identity == {"encoder": f"torchvision:{name}", "encoder_seed": 3}
    assert encoder.folder == Path(f"runs/torchvision-{name}-seed3")
    assert (encoder.spec.frames, encoder.spec.size) == ((16, 112) if video else (1, 224))
    assert encoder.spec.mean == ((0.43216, 0.394666, 0.37645) if video else (0.485, 0.456, 0.406))


def eztorch_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As SCE's published checkpoints have them, with what else training keeps."""
    others = {"projector.0.weight": torch.ones(2), "momentum_trunk.model.x": torch.ones(2)}
    return {f"trunk.model.{key}": t for key, t in weights.items()} | others


def test_an_eztorch_checkpoint_gives_the_papers_trunk(tmp_path: Path) -> None:
    cases = json.loads((GOLDEN / "trunks.json").read_text())["cases"]
    [golden] = [case["expected"] for case in cases if case["name"] == "r3d18_no_head"]
    weights = random_weights(lambda: build_trunk("r3d_18"))
    published = {f"{name}.weight": shape for name, shape, _, _ in golden["conv_layers"]}
    assert {k: list(t.shape) for k, t in weights.items() if t.dim() == 5} == published
    file = tmp_path / "sce.ckpt"
    torch.save({"state_dict": eztorch_names(weights), "epoch": 199, "loops": {}}, file)
    encoder = open_encoder(file)
    assert (encoder.spec.trunk, encoder.spec.frames, encoder.spec.seconds) == ("r3d_18", 8, 2.56)
    assert encoder.spec.mean == (0.45, 0.45, 0.45)
    for key, tensor in encoder.trunk.state_dict().items():
        assert torch.equal(tensor, weights[key]), key
    assert encoder.note.endswith(
        f"all its {len(weights)} tensors; left out: projector (1), momentum_trunk (1)"
    )
    assert not encoder.trunk.training


def check(layout: str, folder: Path) -> None:
    content, trunk, part = OPEN[layout]
    torch.save(content, folder / "x.pth")
    found = open_encoder(folder / "x.pth")
    assert (found.spec.trunk, found.part) == (trunk, part)
    state, weights = found.trunk.state_dict(), expected(layout)
    assert all(torch.equal(t, weights[key].to(t.dtype)) for key, t in state.items() if t.dim())
    where = f"{folder / 'x.pth'}#{part}" if part else f"{folder / 'x.pth'}"
    assert found.identity["encoder"] == where
    assert found.note.startswith(f"{where}: {trunk}, all its ")
    assert not found.trunk.training


@pytest.mark.parametrize("layout", ["moco-v2", "half", "old", "vissl"])
def test_files_in_published_layouts_open(layout: str, tmp_path: Path) -> None:
    check(layout, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("layout", OPEN)
def test_files_in_all_published_layouts_open(layout: str, tmp_path: Path) -> None:
    check(layout, tmp_path)


def test_one_of_several_encoders_is_taken_and_the_others_named(tmp_path: Path) -> None:
    torch.save(OPEN["moco-v2"][0], file := tmp_path / "moco.pth.tar")
    query, key = open_encoder(file), open_encoder(f"{file}#encoder_k")
    assert query.note.endswith(
        "; FILE#PREFIX takes another: #state_dict.module.encoder_k (resnet18); "
        "left out: encoder_k (120), fc (4), queue (1), queue_ptr (1)"
    )
    for found, weights in ((query, R18), (key, OTHER)):
        assert torch.equal(found.trunk.state_dict()["conv1.weight"], weights["conv1.weight"])
    assert key.part == "state_dict.module.encoder_k"
    assert query.digest != key.digest  # features of one are not the other's
    named = open_encoder(f"torchvision:resnet18={file}#encoder_k")
    assert (named.part, named.digest) == (key.part, key.digest)
    with pytest.raises(UsageError, match="no trunk behind 'encoder'; there is #state_dict"):
        open_encoder(f"{file}#encoder")
    torch.save({"a": R18, "b": R18}, file)
    assert "takes another: #b (the same tensors); " in open_encoder(file).note


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float64])
def test_encoders_of_other_floats_are_compared(dtype: torch.dtype, tmp_path: Path) -> None:
    stored = {key: t.to(dtype) if t.is_floating_point() else t for key, t in R18.items()}
    first = {"bn1.num_batches_tracked": torch.tensor(1.0)}  # which the second has not
    second = {key: t for key, t in stored.items() if "num_batches" not in key}
    torch.save({"a": stored | first, "b": second, "c": OTHER}, file := tmp_path / "x.pth")
    found = open_encoder(file)
    assert "takes another: #b (the same tensors), #c (resnet18); " in found.note
    for key in ("conv1.weight", "layer4.1.bn2.running_var"):
        assert torch.equal(found.trunk.state_dict()[key], stored[key].float())


def test_pickles_of_others_are_told_from_our_encoders(tmp_path: Path) -> None:
    arrays = {"a": np.ones(2)}
    for protocol in range(6):
        (file := tmp_path / "x.pkl").write_bytes(pickle.dumps(arrays, protocol))
        with pytest.raises(UsageError, match="holds Python objects"):
            open_encoder(file)


def test_names_with_a_hash_open(tmp_path: Path) -> None:
    for name in ("run #3/w#1.pth", "#.ckpt"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
        assert encoder_file(file) == ("", file, None)
        assert encoder_file(f"{file}#a.b") == ("", file, "a.b")
        assert encoder_file(f"{file}#") == ("", file, "")
        assert encoder_file(f"torchvision:resnet18={file}#b") == ("resnet18", file, "b")
    assert encoder_file("torchvision:resnet18") == ("resnet18", None, None)
    torch.save(R18 | under("ema.", OTHER), file)
    assert (open_encoder(f"{file}#").part, open_encoder(f"{file}#ema").part) == ("", "ema")
    with pytest.raises(UsageError, match=r"none\.pth: no encoder"):
        open_encoder(tmp_path / "none.pth#encoder_q")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        broken = R18["bn1.running_var"].clone()
        broken[3] = value
        torch.save(R18 | {"bn1.running_var": broken}, file := tmp_path / "x.pth")
        with pytest.raises(
            SceVideoError, match=r"x.pth: weights that are not finite: bn1"
        ) as caught:
            open_encoder(file)
        assert caught.value.exit_code == 1


def test_a_pytorchvideo_file_loses_its_head(tmp_path: Path) -> None:
    theirs = random_weights(lambda: create_resnet(stem_conv_kernel_size=(1, 7, 7)))
    file = tmp_path / "SLOW_8x8_R50.pyth"
    torch.save({"model_state": theirs}, file)
    encoder = open_encoder(file)
    assert encoder.spec.trunk == "r3d_50"
    assert encoder.note.endswith("left out: blocks (2)")
    ours = encoder.trunk.state_dict()
    assert theirs.keys() - ours.keys() == {"blocks.5.proj.weight", "blocks.5.proj.bias"}
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_resnets_of_any_wrapping_and_age(tmp_path: Path) -> None:
    weights = torchvision.models.resnet18().state_dict()
    old = {key: t for key, t in weights.items() if "num_batches" not in key}
    file = tmp_path / "weights.safetensors"
    save_file({f"module.{key}": t for key, t in old.items()}, file)
    found = open_encoder(file)
    assert found.spec.trunk == "resnet18"
    assert found.identity["encoder_sha256"]
    assert found.folder == tmp_path
    named = open_encoder(f"torchvision:resnet18={file}")
    assert torch.equal(named.trunk.state_dict()["conv1.weight"], weights["conv1.weight"])
    with pytest.raises(UsageError, match="nearest to resnet50 behind 'module', but lacks"):
        open_encoder(f"torchvision:resnet50={file}")


def test_our_own_encoders_open_as_before(tmp_path: Path) -> None:
    spec = EncoderSpec(
        trunk="resnet18", width=4, frames=1, seconds=0, size=32, mean=(0, 0, 0), std=(1, 1, 1)
    )
    trunk = build_trunk("resnet18", 4)
    save_encoder(tmp_path / "encoder.safetensors", trunk, spec)
    shutil.copy(tmp_path / "encoder.safetensors", tmp_path / "renamed.pth")
    for location in (tmp_path, tmp_path / "encoder.safetensors", tmp_path / "renamed.pth"):
        found = open_encoder(location)
        assert (found.spec, found.note, found.folder) == (spec, "", tmp_path)
    with pytest.raises(UsageError, match="holds one encoder; give it without '#online'"):
        open_encoder(f"{tmp_path}#online")


def test_what_is_no_encoder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are r2plus1d_18, resnet18, resnet50"):
        open_encoder("torchvision:r3d_18")
    with pytest.raises(UsageError, match="no such file"):
        open_encoder(f"torchvision:resnet18={tmp_path / 'none'}")
    (tmp_path / "encoder.safetensors").write_bytes(b"cut")
    with pytest.raises(UsageError, match="not an encoder"):
        open_encoder(tmp_path)
