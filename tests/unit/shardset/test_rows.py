"""Rows of the index from a tar and back."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from sce_video.errors import VerificationError
from sce_video.shard.writer import TarWriter
from sce_video.shardset.rows import index_row, noted_facts, read_rows, row_members


def test_rows_are_where_the_members_lie(tmp_path: Path) -> None:
    names = ("label", "class", "path", "ext", "sha256", "duration", "fps", "frames", "width")
    fields = {**dict.fromkeys(names, 1), "height": 2, "ext": "mp4", "splits": {"split": "val"}}
    fields |= {"interlaced": True, "pixel_aspect": ""}
    text = json.dumps(fields).encode()
    with TarWriter(tmp_path / "t.tar") as tar:
        members = [
            {ext: tar.add(f"{key}.{ext}", data) for ext, data in parts.items()}
            for key, parts in (
                ("a", {"mp4": b"video", "json": text, "idx": b"index"}),
                ("b", {"mp4": b"", "json": text}),
            )
        ]
        tar.commit()
    rows, noted = read_rows(tmp_path / "t.tar", ["split", "split1"])
    assert noted == {"interlaced": 2}
    assert rows == [
        index_row("t.tar", key, text, own, ["split", "split1"])
        for key, own in zip("ab", members, strict=True)
    ]
    assert [(r["key"], r["split"], r["split1"], r["height"]) for r in rows] == [
        ("a", "val", "", 2),
        ("b", "val", "", 2),
    ]
    assert [(r["idx_offset"] >= 0, r["idx_size"]) for r in rows] == [(True, 5), (False, 0)]
    raw = (tmp_path / "t.tar").read_bytes()
    found = [(m.name, raw[m.offset_data :][: m.size]) for row in rows for m in row_members(row)]
    assert found == [
        ("a.mp4", b"video"),
        ("a.json", text),
        ("a.idx", b"index"),
        ("b.mp4", b""),
        ("b.json", text),
    ]
    with pytest.raises(KeyError):
        index_row("t.tar", "a", b"{}", members[0], [])


def _tar(kind: str, path: Path) -> None:
    """A tar that no converter of this package writes."""
    form = tarfile.PAX_FORMAT if kind == "pax" else tarfile.GNU_FORMAT
    with tarfile.open(path, "w", format=form) as tar:
        info = tarfile.TarInfo("a.json" if kind != "pax" else "é" * 90)
        text = {"json": b"{", "deep": b"[" * 100_000, "list": b"[1]"}.get(kind, b"{}")
        info.size = len(text)
        info.type = tarfile.SYMTYPE if kind == "link" else tarfile.REGTYPE
        tar.addfile(info, io.BytesIO(text))
    data = path.read_bytes()
    if kind == "cut":
        path.write_bytes(data[:700])
    if kind == "size":  # base 256, more than any file holds
        info = tarfile.TarInfo("a.json")
        info.size = 1 << 62
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    if kind == "bytes":
        path.write_bytes(b"\xff" * 2048)


@pytest.mark.parametrize(
    "kind", ["json", "deep", "list", "fields", "pax", "link", "cut", "size", "bytes"]
)
def test_a_tar_that_is_not_ours_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    _tar(kind, tmp_path / "t.tar")
    with pytest.raises(VerificationError, match=r"t\.tar: no shard of this package; shard again$"):
        read_rows(tmp_path / "t.tar", [])


def test_noted_facts_are_those_of_the_source() -> None:
    assert noted_facts({"ext": "mp4"}) == {}
    assert noted_facts({"pixel_aspect": "4:3", "interlaced": True}) == {
        "pixel_aspect": 1,
        "interlaced": 1,
    }
    assert noted_facts({"source": {"interlaced": True}, "pixel_aspect": "4:3"}) == {"interlaced": 1}
