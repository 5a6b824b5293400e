"""What is made of names on a disk."""

from __future__ import annotations

from pathlib import Path

from tests.unit.shard.layouts import scan


def test_foreign_bytes_in_names(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (tmp_path / "a" / b"caf\xe9.mp4".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    (record,) = scan("folder", tmp_path).records
    assert record.path == r"a/caf\xe9.mp4"
    assert record.source.read_bytes() == b"x"
