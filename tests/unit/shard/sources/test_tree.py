"""What is found below a root: links, shard sets, odd names."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sce_video.errors import UsageError
from sce_video.shard.sources import Options
from sce_video.shard.sources.tree import Tree, _unseen, folders, walk
from sce_video.shardset.reasons import LONG, NOWHERE, SPECIAL
from tests.unit.shard.layouts import labels, put, put_text, scan


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


def _deep(folder: Path) -> None:
    """A file whose path is longer than the system takes, made from folder to folder."""
    above = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=above)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.close(os.open("v.mp4", os.O_CREAT | os.O_WRONLY, dir_fd=above))
    os.close(above)


def _two(folder: Path) -> None:
    (folder / "x").symlink_to("y")
    (folder / "y").symlink_to("x")


ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "itself": (lambda at: (at / "x.mp4").symlink_to("x.mp4"), NOWHERE),
    "folder itself": (lambda at: (at / "x").symlink_to("x"), NOWHERE),
    "two": (_two, NOWHERE),
    "long": (lambda at: (at / "x.mp4").symlink_to("n" * 300), NOWHERE),
    "long path": (lambda at: (at / "x").symlink_to("n/" * 2000), NOWHERE),
    "pipe": (lambda at: os.mkfifo(at / "x.mp4"), SPECIAL),
    "deep": (_deep, LONG),
}
LAYOUTS = {
    "folder": ("a/1.mp4", "b/2.mp4"),
    "imagenet": ("train/n00000001/1.JPEG", "train/n00000002/2.JPEG"),
    "kinetics400": ("train/a/1_000000_000010.mp4", "train/b/2_000000_000010.mp4"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("source", LAYOUTS)
def test_what_cannot_be_looked_at_is_left_out_alone(source: str, kind: str, tmp_path: Path) -> None:
    put(tmp_path, *LAYOUTS[source])
    make, reason = ODD[kind]
    first = Path(LAYOUTS[source][0])
    for at in dict.fromkeys((first.parent, first.parent.parent)):
        make(tmp_path / at)
    found = scan(source, tmp_path)
    assert [record.path for record in found.records] == [*LAYOUTS[source]]
    assert {why for _, why in found.rejects} == {reason}
    assert len(found.rejects) in (2, 4)


def test_a_link_to_a_closed_place_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a/1.mp4")
    (tmp_path / "a/x.mp4").symlink_to("1.mp4")
    with os.scandir(tmp_path / "a") as entries:
        link = next(entry for entry in entries if entry.name == "x.mp4")
    error = PermissionError(13, "Permission denied", "x")
    assert _unseen(link, error) == "link to a place that may not be read"
    with os.scandir(tmp_path / "a") as entries:
        file = next(entry for entry in entries if entry.name == "1.mp4")
    with pytest.raises(PermissionError):
        _unseen(file, error)


def test_names_of_any_characters_are_one_line(tmp_path: Path) -> None:
    for name in ("yo\nga/\x1b[2J\t.mp4", "yo\nga/\u2028.mp4", "=1/\u200f1.mp4"):
        put(tmp_path, name)
    put(tmp_path, os.fsdecode(b"yo\nga/caf\xe9\r.mp4"))
    found = scan("folder", tmp_path)
    assert labels(found) == {
        "=1/\u200f1.mp4": "=1",
        r"yo\nga/\u2028.mp4": r"yo\nga",
        r"yo\nga/\x1b[2J\t.mp4": r"yo\nga",
        r"yo\nga/caf\xe9\r.mp4": r"yo\nga",
    }
    assert all(record.source.read_bytes() == b"x" for record in found.records)
    put_text(
        tmp_path, "list.csv", ["path,label", '"yo', 'ga/\x1b[2J\t.mp4",a', "yo\\nga/\u2028.mp4,b"]
    )
    listed = scan("folder", tmp_path, csv=tmp_path / "list.csv")
    assert labels(listed) == {r"yo\nga/\u2028.mp4": "b", r"yo\nga/\x1b[2J\t.mp4": "a"}


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
