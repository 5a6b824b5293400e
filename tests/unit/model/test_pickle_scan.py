"""Pickles that ask for more than they hold are refused before torch sees them."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from sce_video.errors import UsageError
from sce_video.model.pickle_file import is_pickled
from sce_video.model.pickle_scan import check_pickles
from sce_video.model.tensor_file import read_tensors

HUNDRED = b"K\x64"  # the pickled number
PROTO = b"\x80\x02"
HUGE = b"\x8a\x05" + struct.pack("<q", 1 << 35)[:5]


def saved(content: object, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


GOOD = saved({"a": torch.rand(100)})
LONG_AGO = saved({"a": torch.rand(100)}, zipped=False)


def rezipped(
    pickled: bytes = b"", compression: int = zipfile.ZIP_STORED, storage: bytes = b""
) -> bytes:
    """The archive of :data:`GOOD` with another pickle, compression or storage."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(GOOD)) as parts,
        zipfile.ZipFile(buffer, "w", compression) as made,
    ):
        for name in parts.namelist():
            new = pickled if name.endswith("data.pkl") else storage * name.endswith("data/0")
            made.writestr(name, new or parts.read(name))
    return buffer.getvalue()


def in_pickle(old: bytes, new: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(GOOD)) as parts:
        [name] = [name for name in parts.namelist() if name.endswith("data.pkl")]
        pickled = parts.read(name)
    assert old in pickled
    return rezipped(pickled.replace(old, new, 1))


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def called(name: str, argument: bytes) -> bytes:
    """A pickle of a call with one argument."""
    module, _, name = name.rpartition(".")
    return PROTO + f"c{module}\n{name}\n".encode() + argument + b"\x85R."


def shared() -> list[Any]:
    """A list of 2^60 parts, in 60 lists."""
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    return value


HEX = b"c_codecs\nencode\nq\1" + b"".join(b"h\1h\2" + text("hex") + b"\x86Rq\2" for _ in range(40))
BOMBS = {
    "a storage beyond the file": (in_pickle(HUNDRED + b"t", b"J\xff\xff\xff\x7ft"), "400 bytes is"),
    "a storage of less than nothing": (
        in_pickle(HUNDRED + b"t", b"J\xff\xff\xff\xfft"),
        "does not",
    ),
    "of long ago": (LONG_AGO.replace(HUNDRED + b"N", b"J\xff\xff\xff\x7fN", 1), "more bytes than"),
    "compressed": (rezipped(compression=zipfile.ZIP_DEFLATED), "its parts are compressed"),
    "a zip bomb": (
        rezipped(compression=zipfile.ZIP_DEFLATED, storage=bytes(1 << 26)),
        "its parts are compressed",
    ),
    "another archive": (b"PK\5\6" + bytes(18), "torch.save did not write"),
    "room": (rezipped(called("builtins.bytearray", HUGE)), "does not fill"),
    "room by another call": (
        rezipped(
            PROTO
            + b"ctorch._tensor\n_rebuild_from_type_v2\n(cbuiltins\nbytearray\n"
            + b"cbuiltins\nbytearray\n"
            + HUGE
            + b"\x85}tR."
        ),
        "does not fill",
    ),
    "a tensor's room": (rezipped(called("torch.FloatTensor", HUGE)), "calls torch.FloatTensor"),
    "codes upon codes": (rezipped(PROTO + text("ab") + b"q\2" + HEX + b"."), "in an odd code"),
    "copies": (
        rezipped(
            PROTO
            + b"cbuiltins\nset\nq\0("
            + b"K\1" * 100_000
            + b"lq\1("
            + b"h\0h\1\x85R" * 3_000
            + b"l."
        ),
        "copies the same values",
    ),
    "a place of billions": (rezipped(PROTO + b"]r\xff\xff\xff\x7f."), "at random"),
    "a place of long ago": (b"]p99999999999999\n.", "at random"),
    "many classes": (
        rezipped(PROTO + b"(" + b"".join(b"ca\nb%d\n" % n for n in range(1_001)) + b"l."),
        "more than 1,000 classes",
    ),
    "a text of billions": (rezipped(PROTO + b"X\xff\xff\xff\xffabc."), "only 4 remain"),
    "bytes of billions": (rezipped(b"\x80\x05\x96" + b"\xff" * 7 + b"\x0fabc."), "only 4 remain"),
    "a number of billions": (PROTO + b"\x8b\xff\xff\xff\x7fabc.", "not enough data"),
    "a frame of billions": (b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f}.", ""),
    "lists too deep": (rezipped(PROTO + b"]" * 5_000 + b"a" * 4_999 + b"."), "recursion"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_asks_for_more_than_it_holds(name: str, tmp_path: Path) -> None:
    data, why = BOMBS[name]
    (file := tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(UsageError) as caught:
        read_tensors(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: not a file of tensors, or a damaged one: ")
    assert why in message
    assert message.endswith("; take it again from where it came from")
    assert "weights_only" not in message
    assert message.isprintable()


def test_parts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that hold each other would be gone through without end."""
    monkeypatch.setattr("sce_video.model.tensor_file._MOST_PARTS", 1_000)
    (file := tmp_path / "x").write_bytes(saved(shared()))
    with pytest.raises(UsageError, match="have more than 1,000 parts"):
        read_tensors(file)


def test_steps_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file := tmp_path / "x").write_bytes(PROTO + b"(" + b"N" * 200 + b"l.")
    check_pickles(file)
    assert is_pickled(file)
    monkeypatch.setattr("sce_video.model.pickle_scan._MOST_STEPS", 200)
    with pytest.raises(UsageError, match="a pickle of more than 200 steps"):
        read_tensors(file)


@pytest.mark.parametrize("data", [GOOD, LONG_AGO, rezipped()], ids=["now", "long ago", "again"])
def test_whole_files_pass(data: bytes, tmp_path: Path) -> None:
    (file := tmp_path / "x.pth").write_bytes(data)
    check_pickles(file)
    assert read_tensors(file)["a"].shape == (100,)


def test_every_kind_of_storage_passes(tmp_path: Path) -> None:
    """Views of one storage, kinds of numbers, a parameter, empty and of no dimension."""
    whole = torch.arange(12).view(3, 4)
    kinds = (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64)
    content = {str(kind): torch.ones(3, dtype=kind) for kind in kinds}
    content |= {"t": whole.t(), "part": whole[1:, 2:], "none": torch.ones(0), "one": torch.ones(())}
    content |= {"p": torch.nn.Parameter(torch.ones(2))}
    for zipped in (False, True):
        if zipped:  # torch reads no others of long ago
            content["f8"] = torch.ones(3).to(torch.float8_e4m3fn)
        (file := tmp_path / "x.pth").write_bytes(saved(content, zipped=zipped))
        check_pickles(file)
        found = read_tensors(file)
        assert found.keys() == content.keys()
        assert all(
            torch.equal(found[name].to(torch.complex128), content[name].to(torch.complex128))
            for name in content
        )


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "long ago"])
def test_what_is_in_it_is_named_and_not_run(
    zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the file is not whole, so that no command would help."""
    monkeypatch.chdir(tmp_path)
    evil = called("posix.system", text("touch ran"))
    (file := tmp_path / "x.pth").write_bytes(rezipped(evil) if zipped else evil)
    with pytest.raises(UsageError, match=r"holds Python objects \(posix\.system\), which may run"):
        read_tensors(file)
    assert not Path("ran").exists()
    file.write_bytes(evil + b"and more")
    with pytest.raises(UsageError, match=r"it names posix\.system, which is no tensor") as caught:
        read_tensors(file)
    assert "weights_only" not in str(caught.value)
    assert "safe_globals" not in str(caught.value)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.pth")
    (tmp_path / "x.safetensors").mkdir()
    for name in ("x.pth", "x.safetensors"):
        with pytest.raises(OSError, match="is not a regular file"):
            read_tensors(tmp_path / name)
        with pytest.raises(OSError, match="is not a regular file"):
            is_pickled(tmp_path / name)
    (tmp_path / "real").write_bytes(GOOD)
    (tmp_path / "link.pth").symlink_to("real")
    assert list(read_tensors(tmp_path / "link.pth")) == ["a"]


def test_names_are_bounded(tmp_path: Path) -> None:
    one = torch.ones(1)
    torch.save({"a." * 600: one}, file := tmp_path / "x.pth")
    with pytest.raises(UsageError, match="names of more than 1,000 characters"):
        read_tensors(file)
    file.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UsageError, match="holds Python objects"):
        read_tensors(file)
