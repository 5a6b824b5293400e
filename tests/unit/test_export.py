"""The encoder for others: torchvision's and pytorchvideo's own networks take it strictly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pytorchvideo.models.r2plus1d import create_r2plus1d
from pytorchvideo.models.resnet import create_resnet
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50
from torchvision.models.video import r2plus1d_18

from sce_video import load_encoder
from sce_video.config.load import dump_config
from sce_video.config.tasks import PretrainConfig, SupervisedConfig
from sce_video.config.trunks import TRUNKS
from sce_video.engine.checkpoint import save
from sce_video.engine.pretrain import build_siamese
from sce_video.engine.supervised import build_classifier
from sce_video.errors import SceVideoError, UsageError
from sce_video.export import export_encoder


def make_run(folder: Path, trunk: str, width: int, objective: str, *steps: int) -> Path:
    """What a run that was stopped after ``steps`` leaves; other weights each time."""
    tree: dict[str, dict[str, Any]] = {
        "data": {"shards": "none"},
        "clip": {"frames": 4, "seconds": 0.6, "size": 32},
        "model": {"trunk": trunk, "width": width, "projector": {"hidden": 8, "dim": 4}},
        "objective": {"name": objective},
        "train": {"batch_size": 2},
    }
    tree["model"]["predictor"] = None
    config = PretrainConfig.model_validate(tree)
    siamese = build_siamese(config, None, samples=9, epoch_steps=1)
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_config(config))
    for step in steps:
        with torch.no_grad():
            for name, tensor in siamese.state_dict().items():
                if tensor.is_floating_point() and "trunk" in name:
                    tensor.add_(0.01 * step)
            if siamese.momentum:
                next(siamese.momentum.parameters()).add_(1)
        files = {"model.safetensors": siamese.state_dict(), "optimizer.safetensors": {}}
        save(
            folder / "checkpoints", files, {"step": step, "run_id": "abc", "data": "1" * 64}, keep=9
        )
    return folder


def trunk_of(run: Path, step: int, branch: str = "online") -> dict[str, Tensor]:
    tensors = load_file(run / f"checkpoints/step-{step:08d}/model.safetensors")
    prefix = f"{branch}.trunk."
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def without_fc(model: Any) -> nn.Module:
    model.fc = nn.Identity()
    network: nn.Module = model
    return network


def r2plus1d_50() -> nn.Module:
    network: nn.Module = create_r2plus1d(model_num_class=1)
    del network.blocks[-1]  # type: ignore[operator, union-attr]
    return network


THEIRS: dict[str, Callable[[], nn.Module]] = {
    "r2plus1d_18": lambda: without_fc(r2plus1d_18()),
    "resnet18": lambda: without_fc(resnet18()),
    "resnet50": lambda: without_fc(resnet50()),
    "r3d_50": lambda: create_resnet(stem_conv_kernel_size=(1, 7, 7), head=None),
    "r2plus1d_50": r2plus1d_50,
}


@pytest.mark.parametrize(
    "trunk",
    [
        pytest.param(name, marks=[] if name in ("r2plus1d_18", "resnet18") else pytest.mark.slow)
        for name in THEIRS
    ],
)
def test_their_networks_load_both_files_strictly_and_give_the_same(
    trunk: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", trunk, 64, "simclr", 1)
    library = TRUNKS[trunk].whose
    encoder = export_encoder(run)
    plain = export_encoder(run, library=library)
    assert (encoder.name, plain.name) == ("encoder.safetensors", "encoder.pth")
    ours, _ = load_encoder(encoder)
    clip = torch.randn(2, 3, 1 if trunk.startswith("resnet") else 4, 32, 32)
    with torch.device("meta"):  # without the time that fresh weights would take
        theirs = THEIRS[trunk]().eval()
    for tensors in (load_file(encoder), torch.load(plain, weights_only=True)):
        theirs.load_state_dict(tensors, assign=True)
        with torch.no_grad():
            found = theirs(clip[:, :, 0] if trunk.startswith("resnet") else clip)
            found = found.mean((2, 3, 4)) if found.dim() == 5 else found
            torch.testing.assert_close(found, ours(clip), rtol=1e-4, atol=1e-5)
    assert {name for name, known in TRUNKS.items() if known.same} == THEIRS.keys()


def test_the_group_may_read_what_is_exported(tmp_path: Path, for_the_group: int) -> None:
    run = make_run(tmp_path / "run", "r3d_18", 2, "simclr", 1)
    assert export_encoder(run).stat().st_mode & 0o777 == for_the_group


def test_a_stopped_run_gives_any_checkpoint_and_branch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", "r3d_18", 4, "sce", 2, 4, 6)
    with pytest.raises(UsageError, match="sce-video export RUN makes it"):
        load_encoder(run)
    model = run / "checkpoints/step-00000006/model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    written = [
        (export_encoder(run), 4, "online"),
        (export_encoder(run, branch="momentum"), 4, "momentum"),
        (export_encoder(run, checkpoint="step-00000002"), 2, "online"),
        (export_encoder(run, tmp_path / "new"), 4, "online"),
        (export_encoder(run, tmp_path / "v1.2/a.safetensors"), 4, "online"),
    ]
    assert f"passing over {model.parent}" in capsys.readouterr().err
    assert [str(path.relative_to(tmp_path)) for path, _, _ in written] == [
        "run/encoder.safetensors",
        "run/momentum.safetensors",
        "run/encoder-step-00000002.safetensors",
        "new/encoder.safetensors",
        "v1.2/a.safetensors",
    ]
    for path, step, branch in written:
        trunk, spec = load_encoder(path)
        assert (spec.trunk, spec.width, spec.frames) == ("r3d_18", 4, 4)
        for name, tensor in trunk_of(run, step, branch).items():
            assert torch.equal(tensor, trunk.state_dict()[name]), (path, name)
    with pytest.raises(SceVideoError, match="no step-00000006 that verifies"):
        export_encoder(run, checkpoint="step-00000006")
    with pytest.raises(UsageError, match="there are step-00000002, step-00000004"):
        export_encoder(run, checkpoint="step-3")


def test_what_is_no_run_and_has_no_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run's folder"):
        export_encoder(tmp_path)
    run = make_run(tmp_path / "run", "resnet18", 4, "simclr")
    with pytest.raises(UsageError, match="has no checkpoint yet"):
        export_encoder(run)
    run = make_run(tmp_path / "other", "resnet18", 4, "simclr", 1)
    with pytest.raises(UsageError, match="simclr has no momentum encoder"):
        export_encoder(run, branch="momentum")
    with pytest.raises(UsageError, match=r"this format is a \.safetensors"):
        export_encoder(run, tmp_path / "encoder.pth")
    text = (run / "config.yaml").read_text().replace("width: 4", "width: 8")
    (run / "config.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"is not of .*config\.yaml"):
        export_encoder(run)
    assert {path.name for path in run.iterdir()} == {"config.yaml", "checkpoints"}


@pytest.mark.parametrize(
    ("trunk", "width", "objective", "library", "why"),
    [
        ("r2plus1d_18", 4, "simclr", "torchvision", "has width 64, not 4"),
        ("r2plus1d_18", 4, "cmc", "torchvision", "is two trunks"),
        ("r3d_50", 4, "simclr", "torchvision", "r3d_50 is pytorchvideo's"),
        ("r3d_18", 64, "simclr", "pytorchvideo", "r3d_18 is no other library's"),
        ("resnet18_small", 64, "simclr", "torchvision", "resnet18_small is no other library's"),
    ],
)
def test_a_network_that_the_library_lacks_is_refused(
    trunk: str,
    width: int,
    objective: str,
    library: Literal["torchvision", "pytorchvideo"],
    why: str,
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path / "run", trunk, width, objective)
    with pytest.raises(UsageError, match=why):
        export_encoder(run, library=library)


def test_the_two_trunks_of_cmc_stay_together(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "r3d_18", 4, "cmc", 1)
    trunk, spec = load_encoder(export_encoder(run))
    assert spec.colour == "lab"
    assert trunk(torch.zeros(1, 3, 2, 32, 32)).shape == (1, 64)


@pytest.mark.parametrize("task", ["linear", "finetune"])
def test_a_run_with_labels_gives_its_trunk(task: str, tmp_path: Path) -> None:
    tree = {
        "task": task,
        "data": {"shards": "none"},
        "clip": {"frames": 4, "seconds": 0.6, "size": 32},
        "augment": {"recipe": "video_linear"},
        "model": {"trunk": "r3d_18", "width": 4},
    }
    config = SupervisedConfig.model_validate(tree)
    state = build_classifier(config, 3).state_dict()
    (tmp_path / "config.yaml").write_text(dump_config(config))
    files = {"model.safetensors": state, "optimizer.safetensors": {}}
    save(tmp_path / "checkpoints", files, {"step": 1, "run_id": "abc", "data": "1" * 64}, keep=9)
    trunk, _ = load_encoder(export_encoder(tmp_path))
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(tensor, state[f"trunk.{name}"])
    with pytest.raises(UsageError, match=f"{task} has no momentum encoder"):
        export_encoder(tmp_path, branch="momentum")
