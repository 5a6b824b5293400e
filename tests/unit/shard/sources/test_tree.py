"""What is found below a root: links, shard sets, odd names."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path

import pytest

from sce_video.errors import UsageError
from sce_video.shard.sources import Options
from sce_video.shard.sources.tree import Tree, folders, walk
from tests.unit.shard.layouts import labels, put, scan


def paths(tree: Tree) -> list[str]:
    return [file.path for file in tree.files]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path, "raw/yoga/1.mp4", "raw/yoga/deep/2.mp4", "raw/run/3.mp4", "raw/.jump/4.mp4")
    root = tmp_path / "set"
    put(root, "here/5.mp4")
    for name, target in {
        "yoga": "../raw/yoga",
        "again": "../raw/run",  # by name before "run"
        "run": "../raw/run",
        "jump": "../raw/.jump",
        "same": "here",
        "up": ".",
        "top": "/",
        "lost": "nowhere",
        "circle": "circle",
        "file/x": "../here/5.mp4/x",
        "here/back": "..",
        "here/one.mp4": "5.mp4",
        "not": "/dev/null",
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).symlink_to(target)
    tree = walk(root, Options())
    assert paths(tree) == [
        "again/3.mp4",
        "here/5.mp4",
        "here/one.mp4",
        "jump/4.mp4",
        "yoga/1.mp4",
        "yoga/deep/2.mp4",
    ]
    assert {reason: sorted(found) for reason, found in tree.left_out.items()} == {
        "link to a folder above it": ["here/back", "top", "up"],
        "link to a folder that is read elsewhere": ["run", "same"],
        "link to nowhere": ["circle", "file/x", "lost"],
        "neither a file nor a folder": ["not"],
    }
    classes = set(labels(scan("folder", root)).values())
    assert classes == {"again", "here", "jump", "yoga"}


def test_links_into_each_other_end(tmp_path: Path) -> None:
    """Twice as many ways at each of 40 levels; and two trees that lead into each other."""
    for level in range(40):
        put(tmp_path, f"root/l{level:02d}/v.mp4")
        for way in "ab":
            (tmp_path / f"root/l{level:02d}/{way}").symlink_to(f"../l{(level + 1) % 40:02d}")
    put(tmp_path, "x/1.mp4", "y/2.mp4")
    (tmp_path / "x/y").symlink_to("../y")
    (tmp_path / "y/x").symlink_to("../x")
    (tmp_path / "y/out").symlink_to("..")
    (tmp_path / "root/x").symlink_to("../x")
    tree = walk(tmp_path / "root", Options())
    assert len(tree.files) == 42
    assert paths(tree)[-2:] == ["x/1.mp4", "x/y/2.mp4"]
    assert sorted(map(len, tree.left_out.values())) == [2, 80]
    assert sorted(tree.left_out["link to a folder above it"]) == ["x/y/out", "x/y/x"]


def test_a_link_to_a_folder_with_a_known_one_in_it(tmp_path: Path) -> None:
    put(tmp_path, "all/a/1.mp4", "all/b/2.mp4")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").symlink_to("../all/a")
    (root / "rest").symlink_to("../all")
    tree = walk(root, Options())
    assert paths(tree) == ["a/1.mp4", "rest/b/2.mp4"]
    assert tree.left_out == {"link to a folder that is read elsewhere": ["rest/a"]}


def test_the_output_and_other_shard_sets_are_no_input(tmp_path: Path) -> None:
    put(tmp_path, "a/1.mp4", "out/x-000000.tar", "b/set/manifest.json", "b/set/index.parquet")
    put(tmp_path, "b/begun/.plan.json", "b/begun/2.mp4", "b/set/3.mp4", "c/manifest.json")
    (tmp_path / "link").symlink_to("out")
    tree = walk(tmp_path, Options(out=tmp_path / "c" / ".." / "out"))
    assert paths(tree) == ["a/1.mp4", "c/manifest.json"]
    assert {r: sorted(found) for r, found in tree.left_out.items()} == {
        "shard set": ["b/begun", "b/set"]
    }
    assert "b/set/3.mp4" in paths(walk(tmp_path, Options(), sets=True))
    assert paths(walk(tmp_path / "b" / "set", Options())) == [
        "3.mp4",
        "index.parquet",
        "manifest.json",
    ]


def test_names_that_become_one(tmp_path: Path) -> None:
    for name in (b"caf\xe9.mp4", rb"caf\xe9.mp4"):
        put(tmp_path, os.fsdecode(b"a/" + name), data=name)
    tree = walk(tmp_path, Options())
    assert paths(tree) == ["a/caf\\xe9.mp4"]
    assert tree.files[0].source.read_bytes() == rb"caf\xe9.mp4"
    assert tree.left_out == {"another file of this name is taken": ["a/caf\\xe9.mp4"]}


def test_a_foreign_name_can_be_read(tmp_path: Path) -> None:
    put(tmp_path, os.fsdecode(b"a/caf\xe9.mp4"))
    (record,) = scan("folder", tmp_path).records
    assert record.path == r"a/caf\xe9.mp4"
    assert record.source.read_bytes() == b"x"


def test_deep_folders_and_hidden_ones(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 150)
    put(tmp_path, f"{deep}/v.mp4", ".git/x.mp4", "._y.mp4", "a/.DS_Store", "lost+found/#1.mp4")
    put(tmp_path, "a/@eaDir/v.mp4/thumb.jpg")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        tree = walk(tmp_path, Options())
    finally:
        sys.setrecursionlimit(limit)
    assert paths(tree) == [f"{deep}/v.mp4"]


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a/1.mp4")

    def scandir(folder: str) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(UsageError, match=r": Permission denied; make it readable, or move it away"):
        scan("folder", tmp_path)


def test_links_are_told_where_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "yoga").symlink_to("/mnt/unplugged/yoga")
    (tmp_path / "up").symlink_to("..")
    with pytest.raises(UsageError, match=r"found 'yoga' \(link to nowhere\), 'up' \(link to a f"):
        scan("folder", tmp_path)


def test_folders(tmp_path: Path) -> None:
    put(tmp_path, "b/1", "a/1", ".c/1", "d")
    (tmp_path / "e").symlink_to("a")
    assert [path.name for path in folders(tmp_path)] == ["a", "b", "e"]
    assert folders(tmp_path / "none") == []
