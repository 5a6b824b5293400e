"""Pickles of any age and writer are told from damaged ones, and their command gives the tensors."""

from __future__ import annotations

import argparse
import pickle
import shlex
import subprocess
import sys
from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sce_video.errors import UsageError
from sce_video.model.pickle_file import is_pickled
from sce_video.model.tensor_file import read_tensors

TENSORS = {"a": torch.rand(40, 8), "b.num_batches_tracked": torch.tensor(3)}
ARRAYS = {key: tensor.numpy() for key, tensor in TENSORS.items()}
OBJECT = argparse.Namespace(lr=0.1)


def torch_save(content: object, protocol: int, *, zipped: bool = True) -> Callable[[Path], None]:
    return lambda file: torch.save(
        content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped
    )


def dump(content: object, protocol: int) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.write_bytes(pickle.dumps(content, protocol))

    return write


# What wrote a file, and the prefix of its tensors' names.
WRITTEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "arrays": (torch_save({"params": ARRAYS}, 2), "params."),
    "arrays-now": (torch_save({"params": ARRAYS}, 5), "params."),
    "arrays-long-ago": (torch_save([ARRAYS], 4, zipped=False), "0."),
    "tensors-4": (torch_save(TENSORS, 4), ""),
    "tensors-4-long-ago": (torch_save(TENSORS, 4, zipped=False), ""),
    "tensors-5-long-ago": (torch_save({"model": TENSORS}, 5, zipped=False), "model."),
    "objects-long-ago": (torch_save({"model": TENSORS, "args": OBJECT}, 2, zipped=False), "model."),
    "pickle-of-tensors": (dump({"model": TENSORS}, 2), "model."),
    "pickle-of-tensors-4": (dump(TENSORS, 4), ""),
} | {
    f"pickle-{protocol}": (dump({"model": ARRAYS, "__author__": "x"}, protocol), "model.")
    for protocol in range(6)
}


def command_for(file: Path) -> tuple[str, Path]:
    """The command that is printed for a file, and what it will write."""
    with pytest.raises(UsageError) as caught:
        read_tensors(file)
    message, out = str(caught.value), file.with_name(f"{file.name}.tensors.pth")
    assert message.startswith(f"{file}: holds Python objects")
    assert "\n" not in message
    return message.partition(f" and give {out.name}: ")[2], out


def converted(file: Path, patch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """What the command for a file writes; run as it would be, without a process for each."""
    command, out = command_for(file)
    _, option, code, *arguments = shlex.split(command)
    patch.setattr(sys, "argv", [option, *arguments])
    patch.setattr(torch.storage, "_load_from_bytes", torch.storage._load_from_bytes)
    exec(code, {})  # noqa: S102
    return read_tensors(out)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_pickle_is_converted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, prefix = WRITTEN[name]
    write(file := tmp_path / "x")
    assert is_pickled(file)
    found = converted(file, monkeypatch)
    assert found.keys() == {prefix + key for key in TENSORS}
    for key, tensor in TENSORS.items():
        assert torch.equal(found[prefix + key], tensor), key


@pytest.mark.parametrize("name", WRITTEN)
def test_a_pickle_that_was_cut_is_damaged(name: str, tmp_path: Path) -> None:
    WRITTEN[name][0](file := tmp_path / "x")
    whole = file.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UsageError, match="not a file of tensors, or a damaged one: "):
            read_tensors(file)


def test_arrays_of_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = np.arange(6, dtype=np.float32).reshape(2, 3)
    fixed = grid.copy()
    fixed.flags.writeable = False
    arrays = {
        "big-endian": grid.astype(">f4"),
        "transposed": grid.T.copy().T,
        "reversed": grid[::-1, ::-1][::-1, ::-1],
        "fixed": fixed,
        "half": grid.astype(np.float16),
    }
    others = {
        "texts": np.array(["a"]),
        "objects": np.array([{}, None], dtype=object),
        "long": grid.astype(np.longdouble),
        "scalar": np.float64(1.0),
        "none": None,
    }
    dump(arrays | others, 4)(file := tmp_path / "x")
    found = converted(file, monkeypatch)
    assert set(arrays) <= found.keys() <= {*arrays, "long"}  # which some machines have as float64
    for key in arrays:
        assert torch.equal(found[key].float(), torch.from_numpy(grid)), key


def test_a_pickle_of_python_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its texts are bytes of no encoding, among them an array's numbers."""
    values = np.array([1.5, -2.75, 1e-3], dtype="<f4")
    shape = b"(K\x03t"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01" + shape + b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x0c" + values.tobytes() + b"tb"
    )
    file = tmp_path / "x.pkl"
    file.write_bytes(b"\x80\x02}U\x05blobs}U\x07conv1_w" + array + b"ss.")
    found = converted(file, monkeypatch)
    assert found.keys() == {"blobs.conv1_w"}
    assert torch.equal(found["blobs.conv1_w"], torch.from_numpy(values))


def test_tensors_of_another_device_come_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        dump(TENSORS, 2)(file := tmp_path / "x")
    assert b"cuda:0" in file.read_bytes()
    assert torch.equal(converted(file, monkeypatch)["a"], TENSORS["a"])


class Held:
    """An object around others, itself among them."""

    def __init__(self, **held: Any) -> None:
        vars(self).update(held, itself=self, kind=Held)


def test_objects_that_hold_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Linear(2, 2)
    content = {
        "ema": Held(shadow=ARRAYS, decay=0.9),
        "user": UserDict(x=TENSORS["a"]),
        "net": Held(module=net),
        "empty": {"epochs": [1, 2, 3]},
    }
    torch.save(content, file := tmp_path / "x")
    found = converted(file, monkeypatch)
    names = {f"ema.shadow.{key}" for key in ARRAYS} | {"user.data.x"}
    assert found.keys() == names | {"net.module.weight", "net.module.bias"}
    assert torch.equal(found["net.module.weight"], net.weight)
    torch.save({"args": OBJECT, "epoch": 3}, file)
    assert converted(file, monkeypatch) == {}


@pytest.mark.parametrize("protocol", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_a_class_of_the_trainers_script(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("Average", (), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "Average", kind, raising=False)
    average = kind()
    average.shadow = TENSORS
    file = tmp_path / 'it\'s "x" $HOME #1.pth'
    torch.save({"args": OBJECT, "ema": average}, file, pickle_protocol=protocol)
    with pytest.raises(UsageError, match="trainer's code can be imported, with its script for SCR"):
        read_tensors(file)
    command, out = command_for(file)
    assert command.count("SCRIPT") == 1
    if protocol == 4:
        return  # a process takes seconds
    (tmp_path / "train.py").write_text("class Average:\n    pass\n")
    done = subprocess.run(
        ["/bin/sh", "-c", command.replace("SCRIPT", "train")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert torch.equal(read_tensors(out)["ema.shadow.a"], TENSORS["a"])


def test_what_is_no_pickle(tmp_path: Path) -> None:
    for content in (b"", b"hello" * 100, b"<!DOCTYPE html>", b"\x93NUMPY\x01\x00"):
        (tmp_path / "x").write_bytes(content)
        assert not is_pickled(tmp_path / "x")
