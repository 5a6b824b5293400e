"""The trunks in checkpoints of runs, finished or not, of any width."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sce_video.errors import UsageError, VerificationError
from sce_video.model.weights import open_encoder
from tests.unit.model.layouts import SLIM, make_run


@pytest.fixture
def step(tmp_path: Path) -> Path:
    both = ("momentum.trunk", "online.trunk")
    return make_run(tmp_path / "run", "demo.yaml", SLIM, both)


def saved(step: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors behind a prefix in a checkpoint."""
    tensors = load_file(step / "model.safetensors")
    return {k.removeprefix(f"{prefix}."): t for k, t in tensors.items() if k.startswith(prefix)}


@pytest.mark.parametrize("name", ["", "/model.safetensors"])
@pytest.mark.parametrize("part", ["", "#momentum", "#online.trunk"])
def test_a_checkpoint_gives_its_trunks(step: Path, name: str, part: str) -> None:
    found = open_encoder(f"{step}{name}{part}")
    prefix = "momentum.trunk" if part == "#momentum" else "online.trunk"
    state = found.trunk.state_dict()
    expected = saved(step, prefix)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], t) for key, t in expected.items())
    assert (found.spec.trunk, found.spec.width) == ("resnet18_small", 4)
    assert found.part == prefix
    assert found.identity["encoder"] == f"{step / 'model.safetensors'}#{prefix}"
    assert not found.trunk.training
    other = "online" if part == "#momentum" else "momentum"
    assert f"takes another: #{other}.trunk (resnet18_small); left out: " in found.note
    assert found.folder == step.parents[1] / "step-00000500"  # the checkpoint's own may go
    assert len({str(open_encoder(f"{step}#{p}").digest) for p in ("online", "momentum")}) == 2


def test_checkpoints_of_two_trunks_and_of_labelled_runs(tmp_path: Path) -> None:
    lab = "pretrain/cmc_imagenet_resnet50.yaml"
    step = make_run(tmp_path / "lab", lab, SLIM, ("online.trunk",))
    found = open_encoder(step)
    assert found.spec.colour == "lab"
    assert all(
        torch.equal(found.trunk.state_dict()[k], t) for k, t in saved(step, "online.trunk").items()
    )
    step = make_run(tmp_path / "ft", "finetune/ucf101_r3d_50.yaml", SLIM[1:], ("trunk",))
    found = open_encoder(step)
    assert (found.part, found.spec.trunk, found.spec.width) == ("trunk", "r3d_50", 4)


def test_what_is_wrong_with_a_checkpoint_is_said(step: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no trunk behind 'trunks'; there is #online\.trunk "):
        open_encoder(f"{step}#trunks")
    alone = shutil.copytree(step, tmp_path / "elsewhere" / step.name)
    says = f"{tmp_path / 'config.yaml'} is not there, which says .* sce-video export RUN makes"
    with pytest.raises(
        UsageError, match=f"nearest to resnet18.* behind 'momentum.trunk'.*; {says}"
    ):
        open_encoder(alone)
    config = step.parents[1] / "config.yaml"
    config.write_text(config.read_text().replace("width: 4", "width: 8"))
    with pytest.raises(UsageError, match=r"model\.safetensors: its tensors are not its network's"):
        open_encoder(step)
    config.write_text(config.read_text().replace("width: 8", "width: 1000000"))
    with pytest.raises(
        UsageError, match=r"config\.yaml: model\.width: Input should be less than or equal to 4096"
    ):
        open_encoder(step)
    config.write_text(config.read_text().replace("width: 1000000", "width: 4"))
    data = bytearray((step / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (step / "model.safetensors").write_bytes(data)
    with pytest.raises(VerificationError, match=r"not what its manifest\.json names"):
        open_encoder(step)
    manifest = step / "manifest.json"
    for text in (
        "{}",
        "[]",
        "[" * 100_000,
        '{"model.safetensors": 1' + "0" * 5_000 + "}",
        "\ud800",
    ):
        manifest.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(VerificationError, match=r"manifest\.json: damaged; take another"):
            open_encoder(step)
    (step / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match=r"model\.safetensors: not a file of tensors"):
        open_encoder(step)


def test_a_published_network_opens_without_its_run(tmp_path: Path) -> None:
    step = make_run(tmp_path / "run", "demo.yaml", ("model.width=64", SLIM[0]), ("online.trunk",))
    (tmp_path / "run" / "config.yaml").unlink()
    found = open_encoder(step)
    assert (found.spec.trunk, found.part) == ("resnet18_small", "online.trunk")
    assert found.note.endswith(
        "where the whole run is, sce-video export RUN makes an encoder of it"
    )
    named = step.rename(tmp_path / "step-00000009")
    (named / "state.json").unlink()
    assert open_encoder(named).folder == named
