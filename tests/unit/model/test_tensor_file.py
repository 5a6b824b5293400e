"""Files of others are read without unpickling, and the command for those that cannot be works."""

from __future__ import annotations

import argparse
import random
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from sce_video.errors import UsageError
from sce_video.model.tensor_file import read_tensors
from tests.unit.model.layouts import R18, under

SMALL = torchvision.ops.MLP(3, [4, 2])  # can be pickled whole


def refused(content: object, file: Path) -> str:
    torch.save(content, file)
    with pytest.raises(UsageError) as caught:
        read_tensors(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: holds Python objects")
    assert "\n" not in message
    return message


class Runs:
    """Code that opening would run."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (Path("ran"),)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused({"state_dict": {}, "hyper_parameters": Runs()}, tmp_path / "x.ckpt")
    assert not Path("ran").exists()


# File -> its content, which of it holds tensors, and their prefix. Names as a shell hates them.
OBJECTS: dict[str, tuple[Any, Any, str]] = {
    "plain.pth": ({"model": R18, "epoch": 4, "args": argparse.Namespace(lr=0.1)}, R18, "model."),
    "it's a b.pth.tar": (
        {"state_dict": under("module.", R18), "best": np.float64(71.2), "arch": "resnet18"},
        R18,
        "state_dict.module.",
    ),
    'say "x" $HOME.ckpt': (
        {"a": {"b": [{"net": R18}, argparse.Namespace(lr=1)]}, "optimizer": {"state": {}}},
        R18,
        "a.b.0.net.",
    ),
    "whole": (SMALL, SMALL, ""),
    "held#1.pt": ({"epoch": 3, "model": SMALL}, SMALL, "model."),
}


def converted(content: object, file: Path) -> tuple[str, Path]:
    """The command that is printed for a file, and what it will write."""
    out = file.with_name(f"{file.name}.tensors.pth")
    return refused(content, file).partition(f" and give {out.name}: ")[2], out


@pytest.mark.parametrize("name", OBJECTS)
def test_the_command_for_python_objects_works(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, held, prefix = OBJECTS[name]
    command, out = converted(content, tmp_path / name)
    python, option, code, *arguments = shlex.split(command)
    assert (python, option) == (sys.executable, "-c")
    monkeypatch.setattr(sys, "argv", [option, *arguments])
    exec(code, {})  # noqa: S102  (as the command does, without a process for each)
    found = read_tensors(out)
    expected = held.state_dict() if isinstance(held, nn.Module) else held
    assert found.keys() == {prefix + key for key in expected}
    for key, tensor in expected.items():
        assert torch.equal(found[prefix + key], tensor), key


def test_the_kind_of_object_is_named(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    assert "(argparse.Namespace)" in refused(argparse.Namespace(a=1), tmp_path / "x.pth")
    assert "scalar)" in refused({"a": np.float64(1.0)}, tmp_path / "x.pth")
    assert not recwarn.list


NO_WEIGHTS = {
    "empty": b"",
    "text": b"hello" * 100,
    "zip": b"PK\x03\x04" + b"\0" * 50,
    "pickle": b"\x80\x02.",
}


@pytest.mark.parametrize("content", NO_WEIGHTS.values(), ids=NO_WEIGHTS)
def test_files_that_are_no_weights_are_said_in_one_line(content: bytes, tmp_path: Path) -> None:
    for name in ("x.pth", "x.ckpt", "x.safetensors", "x"):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(UsageError, match="not a file of tensors") as caught:
            read_tensors(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False], ids=["now", "long-ago"])
def test_a_damaged_file_is_said_in_one_line(zipped: bool, tmp_path: Path) -> None:
    content = {"state_dict": {"a": torch.rand(3)}, "epoch": 3, "size": [torch.Size([1])]}
    torch.save(content, file := tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    whole, draws, refusals = file.read_bytes(), random.Random(0), []  # noqa: S311
    for number in range(120):
        data = bytearray(whole)
        data[draws.randrange(len(data))] = draws.randrange(256)
        file.write_bytes(data[: draws.randrange(len(data))] if number % 3 else data)
        try:
            read_tensors(file)
        except UsageError as error:
            refusals.append(str(error))
    assert len(refusals) >= 80
    assert all(text.startswith(f"{file}: ") and text.isprintable() for text in refusals)


def test_tensors_are_named_by_the_way_to_them(tmp_path: Path) -> None:
    one = torch.ones(1)
    around: dict[str, Any] = {
        "model": {"module._orig_mod.a": one},
        "states": [{"m": {0: one}}, one],
    }
    around["itself"] = around
    torch.save(around, file := tmp_path / "x")
    assert list(read_tensors(file)) == ["model.module.a", "states.0.m.0", "states.1"]
    torch.save(one, file)
    assert list(read_tensors(file)) == [""]
    torch.save({"many": torch.nested.nested_tensor([one, one]), "a": one}, file)
    assert list(read_tensors(file)) == ["many.0", "many.1", "a"]
    torch.save({"_orig_mod.a": one, "a": one, "x_orig_mod.a": one}, file)
    assert list(read_tensors(file)) == ["_orig_mod.a", "a", "x_orig_mod.a"]
