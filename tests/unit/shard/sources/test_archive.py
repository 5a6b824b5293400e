"""Tars, plain and zipped: what they hold, where, and what damage is found."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from sce_video.errors import UsageError
from sce_video.shard.sources import Record
from sce_video.shard.sources.archive import unpacked
from tests.unit.shard.layouts import put, tar


def members(archive: Path) -> list[Record]:
    return unpacked([Record(f"train/{archive.name}", archive, 0)])


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.TGZ"])
def test_members_and_where_they_lie(name: str, tmp_path: Path) -> None:
    long = "x" * 150 + ".mp4"
    files = {"./a.mp4": b"first", "b/c.mp4": b"", long: b"long", "é'\"日.mp4": b"unicode"}
    skipped = {"._a.mp4": b"mac", "b/.DS_Store": b"mac", "../up.mp4": b"out"}
    archive = tar(tmp_path / name, {**files, **skipped, "b//last.mp4": b"end"})
    found = members(archive)
    assert [f.path for f in found] == [
        "train/a.mp4",
        "train/b/c.mp4",
        f"train/{long}",
        "train/é'\"日.mp4",
        "train/b/last.mp4",
    ]
    data = archive.read_bytes() if name == "a.tar" else gzip.decompress(archive.read_bytes())
    for file, content in zip(found, [*files.values(), b"end"], strict=True):
        assert file.offset is not None
        assert (data[file.offset :][: file.size], file.source) == (content, archive)


def test_links_folders_and_foreign_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("l.mp4", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "x.mp4"
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo(b"caf\xe9.mp4".decode("utf-8", "surrogateescape")))
    link, file = members(path)
    assert (link.path, link.media, file.path) == ("train/l.mp4", None, r"train/caf\xe9.mp4")


def test_one_file_for_each_path(tmp_path: Path) -> None:
    """As after unpacking one part after the other; what is unpacked already counts."""
    for part, data in enumerate((b"1", b"22")):
        tar(tmp_path / f"train/part_{part}.tar", {"a.mp4": data, "b.mp4": data, "c.mp4": data})
    with tarfile.open(tmp_path / "train/part_1.tar", "a") as archive:
        info = tarfile.TarInfo("a.mp4")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"333"))
    put(tmp_path, "train/b.mp4", data=b"4444")
    tar(tmp_path / "train/part_2.tar.gz", {"d.mp4": b"55555"})
    files = [Record(p.relative_to(tmp_path).as_posix(), p, 4) for p in tmp_path.glob("train/*")]
    sizes = {f.path: f.size for f in unpacked(sorted(files, key=lambda file: file.path))}
    assert sizes == {"train/a.mp4": 3, "train/b.mp4": 4, "train/c.mp4": 2, "train/d.mp4": 5}


def test_a_cut_tar_is_found_wherever_it_is_cut(tmp_path: Path) -> None:
    files = {f"{n}.mp4": bytes([65 + n]) * 700 for n in range(3)}
    whole = tar(tmp_path / "whole.tar", files).read_bytes()
    end = 3 * 512 * 3
    for cut in [*range(0, end + 512, 256), 1, end - 1, end + 511]:
        (tmp_path / "a.tar").write_bytes(whole[:cut])
        with pytest.raises(UsageError, match=r"a\.tar: damaged or cut \(.*\); get it again") as e:
            members(tmp_path / "a.tar")
        assert "\n" not in str(e.value)
    for at in (0, 512 * 3 + 2, 512 * 6 + 150):  # a header in the middle is not the end
        damaged = bytearray(whole)
        damaged[at] ^= 1
        (tmp_path / "a.tar").write_bytes(damaged)
        with pytest.raises(UsageError, match="damaged or cut"):
            members(tmp_path / "a.tar")


def test_a_damaged_zip_is_found(tmp_path: Path, noise: bytes) -> None:
    whole = tar(tmp_path / "whole.tar.gz", {"a.mp4": noise, "b.mp4": noise}).read_bytes()
    damaged = [whole[:cut] for cut in (0, 5, 700, len(whole) // 2, len(whole) - 4)]
    for at in (1, 3000, len(whole) - 6):
        flipped = bytearray(whole)
        flipped[at] ^= 64
        damaged.append(bytes(flipped))
    damaged += [noise, gzip.compress(noise), b"<html>404</html>"]
    for data in damaged:
        (tmp_path / "a.tar.gz").write_bytes(data)
        with pytest.raises(UsageError, match=r"a\.tar\.gz: damaged or cut"):
            members(tmp_path / "a.tar.gz")
