"""What a checkpoint is on the disk, and which one is taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sce_video.engine import checkpoint
from sce_video.errors import SceVideoError


def save(folder: Path, *steps: int) -> None:
    for step in steps:
        weight = torch.full((3,), float(step))
        files = {
            "model.safetensors": {"weight": weight},
            "optimizer.safetensors": {"weight/momentum_buffer": weight},
        }
        checkpoint.save(folder, files, {"step": step}, 9)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "no readable manifest.json"),
    "half a manifest": (
        lambda p: (p / "manifest.json").write_text("{"),
        "no readable manifest.json",
    ),
    "an empty manifest": (
        lambda p: (p / "manifest.json").write_text("{}"),
        "manifest.json does not name what a checkpoint holds",
    ),
    "a list": (
        lambda p: (p / "manifest.json").write_text("[]"),
        "manifest.json does not name what a checkpoint holds",
    ),
    "a lost file": (
        lambda p: (p / "optimizer.safetensors").unlink(),
        "optimizer.safetensors is not what its manifest names",
    ),
    "another bit": (
        lambda p: flip(p / "model.safetensors"),
        "model.safetensors is not what its manifest names",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_newest_that_verifies_is_taken_and_each_other_said_once(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 2, 4, 6)
    spoil, problem = DAMAGES[damage]
    spoil(tmp_path / "step-00000006")
    path, state = checkpoint.newest(tmp_path)
    assert (path.name, state) == ("step-00000004", {"step": 4})
    said = f"passing over {tmp_path / 'step-00000006'}: {problem}"
    assert capsys.readouterr().err == f"sce-video: {said}\n"
    told: list[str] = []
    assert checkpoint.newest(tmp_path, warn=told.append)[0] == path
    assert told == [said]
    assert capsys.readouterr().err == ""


def test_one_that_was_passed_over_is_not_kept_for_a_good_one(tmp_path: Path) -> None:
    save(tmp_path, 2, 4, 6)
    flip(tmp_path / "step-00000006" / "model.safetensors")
    for step in (5, 6):
        checkpoint.save(tmp_path, {"model.safetensors": {}}, {"step": step}, 1)
        assert checkpoint.newest(tmp_path, warn=lambda _: None)[1] == {"step": step}
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000006"]


def test_a_copy_beside_a_checkpoint_is_left_alone(tmp_path: Path) -> None:
    save(tmp_path, 2, 4)
    for name in ("step-00000004.backup", "step-old", "step-4"):
        shutil.copytree(tmp_path / "step-00000004", tmp_path / name)
    for step in (6, 8):
        checkpoint.save(tmp_path, {"model.safetensors": {}}, {"step": step}, 1)
    assert checkpoint.newest(tmp_path)[0].name == "step-00000008"
    left = ["step-00000004.backup", "step-00000008", "step-4", "step-old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_none_that_verifies_is_an_error(tmp_path: Path) -> None:
    save(tmp_path, 2)
    with pytest.raises(SceVideoError, match="no step-00000004 that verifies"):
        checkpoint.newest(tmp_path, "step-00000004")
    flip(tmp_path / "step-00000002" / "state.json")
    with pytest.raises(SceVideoError, match=r"no step-\* that verifies; start again with another"):
        checkpoint.newest(tmp_path, warn=lambda _: None)


def test_files_and_their_sums_are_named(tmp_path: Path) -> None:
    save(tmp_path, 3)
    [folder] = tmp_path.iterdir()
    names = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert sorted(json.loads((folder / "manifest.json").read_text())) == names[1:]
    parts = checkpoint.model_part(folder, "online")
    assert parts == {}
