"""Tars of others through our converter, and ours through WebDataset's own reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import webdataset

from sce_video.errors import UsageError
from sce_video.shard.convert import convert
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.sources import Options, Scan, find_source
from sce_video.shard.verify import verify
from sce_video.shardset.index import open_shards
from sce_video.video.encode import Encoding
from tests.unit.shard.layouts import put, tar


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    """Two tars of ``webdataset.ShardWriter``: four videos, labels as cls, as json, and none."""
    folder = tmp_path_factory.mktemp("foreign")
    videos = [(clips / f"clip{n}.mp4").read_bytes() for n in range(4)]
    with webdataset.ShardWriter(str(folder / "other-%06d.tar"), maxcount=2, verbose=0) as writer:
        writer.write({"__key__": "a", "mp4": videos[0], "cls": 10, "txt": "a caption"})
        writer.write({"__key__": "b", "mp4": videos[1], "cls": 2})
        writer.write({"__key__": "c", "mp4": videos[2], "json": {"label": 10, "url": "x"}})
        writer.write({"__key__": "deep/d", "mp4": videos[3], "json": {"url": "x"}})
    return folder


def scan(root: Path) -> Scan:
    return find_source("webdataset").scan("webdataset", root, Options())


def test_foreign_tars_are_converted(foreign: Path, clips: Path, tmp_path: Path) -> None:
    found = scan(foreign)
    assert found.classes == ("2", "10")
    assert [(record.path, record.label) for record in found.records] == [
        ("other-000000.tar/a.mp4", 1),
        ("other-000000.tar/b.mp4", 0),
        ("other-000001.tar/c.mp4", 1),
        ("other-000001.tar/deep/d.mp4", -1),
    ]
    convert(make_plan(found, Settings("ours")), tmp_path / "ours", workers=1)
    assert verify(tmp_path / "ours") == 0
    shards = open_shards(tmp_path / "ours")
    tar = (tmp_path / "ours" / "ours-000000.tar").read_bytes()
    for row in shards.table.to_pylist():
        number = "abcd".index(Path(row["path"]).stem)
        media = tar[row["media_offset"] :][: row["media_size"]]
        assert media == (clips / f"clip{number}.mp4").read_bytes()


@pytest.mark.parametrize("encoding", [None, Encoding(quality="fast")])
def test_webdataset_reads_ours(foreign: Path, tmp_path: Path, encoding: Encoding | None) -> None:
    plan = make_plan(scan(foreign), Settings("ours", samples_per_shard=3, encoding=encoding))
    convert(plan, tmp_path / "ours", workers=1)
    shards = open_shards(tmp_path / "ours")
    urls = [str(tmp_path / "ours" / entry.name) for entry in shards.manifest.shards]
    samples = {s["__key__"]: s for s in webdataset.WebDataset(urls, shardshuffle=False)}
    assert list(samples) == shards.strings("key")
    for row in shards.table.to_pylist():
        sample = samples[row["key"]]
        assert len(sample["mp4"]) == row["media_size"]
        assert len(sample["idx"]) == row["idx_size"] > 0
        assert json.loads(sample["json"])["label"] == row["label"]


def test_no_tars_and_a_label_that_is_no_text(tmp_path: Path) -> None:
    put(tmp_path / "empty", "notes.txt")
    with pytest.raises(UsageError, match=r"expected WebDataset shards \*\.tar"):
        scan(tmp_path / "empty")
    path = tmp_path / "bad.tar"
    with webdataset.TarWriter(str(path), encoder=False) as writer:
        writer.write({"__key__": "a", "mp4": b"x", "json": b"{"})
    with pytest.raises(UsageError, match=r"bad\.tar: .*a: its label is not readable"):
        scan(tmp_path)


def test_pictures_in_tars_and_files_beside_them_are_named(tmp_path: Path) -> None:
    put(tmp_path, "b.tar.gz", "c.mp4", "d.txt")
    members = {"1.mp4": b"x", "1.jpg": b"x", "1.json": b"{}", "2.webm": b"x", "2.cls": b"7"}
    tar(tmp_path / "a.tar", members)
    found = scan(tmp_path)
    assert [record.path for record in found.records] == ["a.tar/1.mp4", "a.tar/2.webm"]
    assert set(found.rejects) == {
        ("a.tar/1.jpg", "picture beside videos"),
        ("b.tar.gz", "archive not read"),
        ("c.mp4", "in no list or class folder"),
        ("d.txt", "not a video"),
    }
    (tmp_path / "a.tar").unlink()
    with pytest.raises(
        UsageError, match=r"shards \*\.tar; found 1 \.gz \(packed\), 1 \.mp4 \(else"
    ):
        scan(tmp_path)
