"""Tars: deterministic, plain, and read by everybody."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from sce_video.shard.writer import TarWriter


def write(path: Path, members: dict[str, bytes]) -> dict[str, tuple[int, int]]:
    places = {}
    with TarWriter(path) as tar:
        for name, data in members.items():
            member = tar.add(name, data)
            places[name] = (member.offset_data, member.size)
        size, sha256 = tar.commit()
    assert path.stat().st_size == size
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    return places


def test_offsets_point_at_the_data(tmp_path: Path) -> None:
    members = {"a.mp4": bytes(range(256)) * 5, "a.json": b"{}", "b.mp4": b"", "b.json": b"x" * 512}
    places = write(tmp_path / "s.tar", members)
    raw = (tmp_path / "s.tar").read_bytes()
    for name, (offset, size) in places.items():
        assert raw[offset : offset + size] == members[name]
    with tarfile.open(tmp_path / "s.tar", "r:") as tar:
        for info in tar:
            stream = tar.extractfile(info)
            assert stream is not None
            assert stream.read() == members[info.name]
            assert (info.offset_data, info.size) == places[info.name]
            assert (info.mtime, info.uid, info.gid, info.mode) == (0, 0, 0, 0o644)
            assert (info.uname, info.gname) == ("", "")


def test_same_members_same_bytes_as_tarfile_would_write(tmp_path: Path) -> None:
    members = {"a.mp4": b"123", "a.json": b"{}"}
    write(tmp_path / "s.tar", members)
    with tarfile.open(tmp_path / "t.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            (tmp_path / "data").write_bytes(data)
            with (tmp_path / "data").open("rb") as stream:
                tar.addfile(info, stream)
    assert (tmp_path / "s.tar").read_bytes() == (tmp_path / "t.tar").read_bytes()


def test_nothing_is_left_of_an_uncommitted_tar(tmp_path: Path) -> None:
    with TarWriter(tmp_path / "s.tar") as tar:
        tar.add("a.mp4", b"123")
        assert [path.name for path in tmp_path.iterdir()] == ["s.tar.tmp"]
    assert list(tmp_path.iterdir()) == []
