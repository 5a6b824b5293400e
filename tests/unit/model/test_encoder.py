"""The encoder's file: it says how to build itself, and is whole."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sce_video.errors import SceVideoError, UsageError
from sce_video.model.encoder import EncoderSpec, build_encoder, load_encoder, save_encoder
from sce_video.model.trunks import build_trunk
from sce_video.model.weights import open_encoder


def test_an_encoder_file_says_how_to_build_itself(tmp_path: Any) -> None:
    spec = EncoderSpec(
        trunk="r2plus1d_18", width=4, frames=4, seconds=1.0, size=32, mean=(0.1,) * 3, std=(1,) * 3
    )
    trunk = build_trunk("r2plus1d_18", 4).eval()
    save_encoder(tmp_path / "encoder.safetensors", trunk, spec)
    loaded, found = load_encoder(tmp_path)
    assert found == spec
    clip = torch.randn(1, 3, 4, 32, 32)
    torch.testing.assert_close(loaded(clip), trunk(clip), rtol=0, atol=0)
    (tmp_path / "encoder.safetensors").write_bytes(b"\x80\x04 not safetensors")
    with pytest.raises(UsageError, match="not an encoder"):
        load_encoder(tmp_path)


def test_the_group_may_read_an_encoder(tmp_path: Any, for_the_group: int) -> None:
    spec = EncoderSpec(
        trunk="r3d_18", width=4, frames=4, seconds=1.0, size=32, mean=(0.1,) * 3, std=(1,) * 3
    )
    save_encoder(path := tmp_path / "encoder.safetensors", build_trunk("r3d_18", 4), spec)
    assert path.stat().st_mode & 0o777 == for_the_group


SPEC = EncoderSpec(
    trunk="resnet18_small", width=4, frames=1, seconds=0, size=32, mean=(0.1,) * 3, std=(1,) * 3
)
KNOWN = SPEC.model_dump()
TENSORS = {key: tensor.contiguous() for key, tensor in build_encoder(SPEC).state_dict().items()}


def refused(file: Path, header: object, tensors: dict[str, Tensor], error: type[Exception]) -> str:
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(tensors, file, {"sce_video": text})
    for opened in (load_encoder, open_encoder):
        with pytest.raises(error) as caught:
            opened(file)
        assert str(caught.value).startswith(f"{file}: ")
        assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"width": 1_000_000}, "width: Input should be less than or equal to 4096"),
        ({"width": 0}, "width: Input should be greater than or equal to 1"),
        ({"width": "wide"}, "width: Input should be a valid integer"),
        ({"frames": 10**9}, "clips of more than 268,435,456 pixels"),
        ({"size": 10**9}, "clips of more than 268,435,456 pixels"),
        ({"seconds": -1}, "seconds: Input should be greater than or equal to 0"),
        ({"std": [0, 1, 1]}, "std.0: Input should be greater than"),
        ({"mean": [1e30, 0, 0]}, "mean.0: Input should be less than"),
        ({"mean": [0] * 4}, "mean: Tuple should have at most 3 items"),
        ({"colour": "xyz"}, "colour: Input should be 'rgb' or 'lab'"),
        ({"trunk": "os:system"}, "no such trunk; there are r3d_18, "),
        ({"trunk": "timm:resnet18"}, "no such trunk; there are r3d_18, "),
        ({"\x1b[31m\n": 1}, r"of another kind (trunk, width, colour and 6 more)"),
    ],
)
def test_a_header_is_held_to_bounds(change: dict[str, Any], why: str, tmp_path: Path) -> None:
    """What it names is of ours, and no code."""
    assert why in refused(tmp_path / "x.safetensors", {**KNOWN, **change}, TENSORS, UsageError)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (json.dumps(KNOWN).replace("0.1", "NaN", 1), "not finite"),
        (json.dumps(KNOWN).replace('"seconds": 0.0', '"seconds": 1e999'), "not finite"),
        (json.dumps(KNOWN).replace('"width": 4', '"width": ' + "9" * 5_000), "more than 64 bits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"trunk": "\\ud800"}', "no UTF-8 text"),
        ("null", "is not ours"),
        ('{"\\u001b[31m\\n": 1}', r"of another kind (\x1b[31m\n)"),
        ("[[1], null]", "of another kind (list)"),
        ("7", "of another kind (int)"),
    ],
    ids=["nan", "infinite", "digits", "deep", "surrogate", "null", "controls", "list", "number"],
)
def test_a_header_that_is_no_header(text: str, why: str, tmp_path: Path) -> None:
    assert why in refused(tmp_path / "x.safetensors", text, TENSORS, UsageError)


@pytest.mark.parametrize("colour", ["rgb", "lab"])
@pytest.mark.parametrize("trunk", ["resnet50", "r3d_50", "r2plus1d_18"])
def test_a_network_takes_no_memory_until_its_weights_are_there(
    trunk: str, colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of width 4096 these have 10^11 weights."""
    header = {**KNOWN, "width": 4096, "trunk": trunk, "colour": colour}
    devices = set()

    def build(spec: EncoderSpec) -> nn.Module:
        devices.add(torch.get_default_device().type)
        return build_encoder(spec)

    monkeypatch.setattr("sce_video.model.encoder.build_encoder", build)
    why = refused(tmp_path / "x.safetensors", header, TENSORS, UsageError)
    assert "its tensors are not its network's: " in why
    assert devices == {"meta"}


def changed(**tensors: Tensor) -> dict[str, Tensor]:
    return {**TENSORS, **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        (changed(conv1__weight=torch.tensor(1.0)), "conv1.weight is [], not [4, 3, 3, 3]"),
        (changed(more=torch.ones(1)), "has more"),
        ({"conv1.weight": TENSORS["conv1.weight"]}, "lacks bn1.weight, lacks bn1.bias"),
        (changed(bn1__bias=torch.zeros(4, dtype=torch.int64)), "bn1.bias (torch.int64)"),
        (changed(bn1__bias=torch.zeros(4, dtype=torch.bool)), "bn1.bias (torch.bool)"),
        (changed(bn1__bias=torch.zeros(4, dtype=torch.complex64)), "bn1.bias (torch.complex64)"),
    ],
    ids=["shape", "more", "less", "whole", "truth", "complex"],
)
def test_tensors_that_are_not_the_networks(
    tensors: dict[str, Tensor], why: str, tmp_path: Path
) -> None:
    found = refused(tmp_path / "x.safetensors", KNOWN, tensors, UsageError)
    assert f"its tensors are not its network's: {why}" in found


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite(value: float, tmp_path: Path) -> None:
    tensors = changed(conv1__weight=torch.full((4, 3, 3, 3), value))
    why = refused(tmp_path / "x.safetensors", KNOWN, tensors, SceVideoError)
    assert why.endswith("weights that are not finite: conv1.weight; take older ones")


def test_weights_of_half_precision_are_read(tmp_path: Path) -> None:
    halves = {k: t.half() if t.is_floating_point() else t for k, t in TENSORS.items()}
    save_file(halves, file := tmp_path / "x.safetensors", {"sce_video": json.dumps(KNOWN)})
    weight = load_encoder(file)[0].state_dict()["conv1.weight"]
    assert torch.equal(weight, halves["conv1.weight"].float())


HEADER = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
ODD: dict[str, tuple[dict[str, Any] | bytes, int]] = {
    "two in one place": ({**HEADER, "b": HEADER["a"]}, 8),
    "a hole": ({"a": {**HEADER["a"], "data_offsets": [8, 16]}}, 16),
    "before the file": ({"a": {**HEADER["a"], "data_offsets": [-8, 0]}}, 8),
    "behind the file": (HEADER, 4),
    "another size": ({"a": {**HEADER["a"], "shape": [2**40, 2**40]}}, 8),
    "another dtype": ({"a": {**HEADER["a"], "dtype": "X9"}}, 8),
    "deep": (b'{"a":' + b"[" * 100_000, 0),
    "a tebibyte of nothing": (
        {"a": {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}},
        1 << 40,
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_safetensors(name: str, tmp_path: Path) -> None:
    header, size = ODD[name]
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    with (file := tmp_path / "x.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + size)  # of zeros, which take no room
    for opened in (load_encoder, open_encoder):
        with pytest.raises(UsageError) as caught:
            opened(file)
        assert str(caught.value).startswith(f"{file}: ")


@pytest.mark.parametrize("length", [2**63, 2**40, 99_000_000])
def test_headers_of_any_length(length: int, tmp_path: Path) -> None:
    (file := tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(UsageError, match="no safetensors file, or a damaged one"):
        load_encoder(file)
