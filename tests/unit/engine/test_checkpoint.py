"""What a checkpoint is on the disk, and which one is taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sce_video.engine import checkpoint
from sce_video.errors import SceVideoError


def state(step: int) -> dict[str, Any]:
    return {"step": step, "consumed": 8 * step, "run_id": "abc", "data": "1" * 64}


def save(folder: Path, *steps: int, keep: int = 9) -> None:
    for step in steps:
        weight = torch.full((3,), float(step))
        files = {
            "model.safetensors": {"weight": weight},
            "optimizer.safetensors": {"weight/momentum_buffer": weight},
        }
        checkpoint.save(folder, files, state(step), keep)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (
        lambda p: (p / "manifest.json").unlink(),
        "no readable manifest.json: No such file or directory",
    ),
    "half a manifest": (
        lambda p: (p / "manifest.json").write_text("{"),
        "no readable manifest.json: no JSON: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
    ),
    "an empty manifest": (
        lambda p: (p / "manifest.json").write_text("{}"),
        "manifest.json does not name what a checkpoint holds",
    ),
    "a list": (
        lambda p: (p / "manifest.json").write_text("[]"),
        "no readable manifest.json: holds no object",
    ),
    "a lost file": (
        lambda p: (p / "optimizer.safetensors").unlink(),
        "optimizer.safetensors: No such file or directory",
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
    path, found = checkpoint.newest(tmp_path)
    assert (path.name, found) == ("step-00000004", state(4))
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
        save(tmp_path, step, keep=1)
        assert checkpoint.newest(tmp_path, warn=lambda _: None)[1] == state(step)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000006"]


def test_a_copy_beside_a_checkpoint_is_left_alone(tmp_path: Path) -> None:
    save(tmp_path, 2, 4)
    for name in ("step-00000004.backup", "step-old", "step-4"):
        shutil.copytree(tmp_path / "step-00000004", tmp_path / name)
    save(tmp_path, 6, 8, keep=1)
    assert checkpoint.newest(tmp_path)[0].name == "step-00000008"
    left = ["step-00000004.backup", "step-00000008", "step-4", "step-old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_none_that_verifies_is_an_error(tmp_path: Path) -> None:
    save(tmp_path, 2)
    with pytest.raises(SceVideoError, match="no step-00000004 that verifies"):
        checkpoint.newest(tmp_path, "step-00000004")
    flip(tmp_path / "step-00000002" / "state.json")
    why = r"step-00000002: state\.json is not what its manifest names"
    with pytest.raises(SceVideoError, match=rf"no step-\* that verifies \({why}\); start again"):
        checkpoint.newest(tmp_path, warn=lambda _: None)


def test_files_and_their_sums_are_named(tmp_path: Path) -> None:
    save(tmp_path, 3)
    [folder] = tmp_path.iterdir()
    names = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert sorted(json.loads((folder / "manifest.json").read_text())) == names[1:]
    parts = checkpoint.model_part(folder, "online")
    assert parts == {}


def test_what_lies_in_a_checkpoints_place_goes_with_it(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").touch()
    folder = tmp_path / "checkpoints"
    save(folder, 2)
    (folder / "step-00000001").touch()
    for name in ("step-00000003", ".tmp-step-00000003"):
        (folder / name).symlink_to(other)
    save(folder, 3, 4, keep=1)
    assert [path.name for path in folder.iterdir()] == ["step-00000004"]
    assert (other / "mine").exists()


def test_a_model_that_holds_no_tensors_is_one_line(tmp_path: Path) -> None:
    save(tmp_path, 3)
    [folder] = tmp_path.iterdir()
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(SceVideoError, match=rf"^{folder}/model.safetensors: holds other tensors "):
        checkpoint.model_part(folder, "online")
