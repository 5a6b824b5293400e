"""Folders of one's own: by class, by list, without labels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, find_source
from tests.unit.shard.layouts import labels, left_out, put, put_text, scan


def test_folder_classes(tmp_path: Path) -> None:
    put(tmp_path, "b c/2.mp4", "a/1.AVI", "a/.hidden.mp4", "a/note.txt", "loose.mp4")
    found = scan("folder", tmp_path)
    assert (found.media, found.classes, found.columns) == ("video", ("a", "b c"), ())
    assert labels(found) == {"a/1.AVI": "a", "b c/2.mp4": "b c"}
    assert left_out(found, "unlisted") == ("a/note.txt", "loose.mp4")
    put(tmp_path, "a/3.jpg")
    with pytest.raises(UsageError, match="videos and images in one set"):
        scan("folder", tmp_path)


def test_folder_unlabelled(tmp_path: Path) -> None:
    put(tmp_path, "x.mp4", "deep/er/y.mkv")
    found = scan("folder", tmp_path, unlabelled=True)
    assert [(r.path, r.label) for r in found.records] == [("deep/er/y.mkv", -1), ("x.mp4", -1)]
    assert found.classes == ()


def test_folder_csv(tmp_path: Path) -> None:
    put(tmp_path, "x/1.mp4", "x/2.mp4", "x/3.mp4")
    listing = tmp_path / "list.csv"
    rows = ["x/1.mp4,10,train", "x/2.mp4,9,val", "x/3.mp4,,train", "gone.mp4,9,val"]
    put_text(tmp_path, "list.csv", ["path,label,split", *rows, "x/1.mp4,9,train"])
    found = scan("folder", tmp_path, csv=listing)
    assert found.classes == ("9", "10")
    assert labels(found) == {"x/1.mp4": "10", "x/2.mp4": "9", "x/3.mp4": ""}
    assert (left_out(found, "missing"), left_out(found, "conflicting")) == (
        ("gone.mp4",),
        ("x/1.mp4",),
    )
    assert [r.path for r in scan("folder", tmp_path, csv=listing, splits=("val",)).records] == [
        "x/2.mp4"
    ]
    for line in ("../x/1.mp4,1,", "/x/1.mp4,1,"):
        put_text(tmp_path, "list.csv", ["path,label,split", line])
        with pytest.raises(UsageError, match=r"line 2: .* no relative path below the root"):
            scan("folder", tmp_path, csv=listing)
    put_text(tmp_path, "list.csv", ["x/1.mp4 1"])
    with pytest.raises(UsageError, match=r"columns path,label\[,split\]"):
        scan("folder", tmp_path, csv=listing)


def test_folder_csv_with_quotes_and_unicode(tmp_path: Path) -> None:
    names = ["a, b/clip 1.mp4", 'it\'s "x"/é+[1]!.mkv', "日本/ß;#.webm", "c/d.mpg", "c/e.avi"]
    put(tmp_path, *names)
    rows = ['"' + name.replace('"', '""') + '","Tai ""Chi"", old",train' for name in names]
    put_text(tmp_path, "list.csv", ["\ufeffpath,label,split", *rows, *rows])
    found = scan("folder", tmp_path, csv=tmp_path / "list.csv")
    assert labels(found) == dict.fromkeys(sorted(names), 'Tai "Chi", old')
    assert (left_out(found, "missing"), left_out(found, "conflicting")) == ((), ())
    (tmp_path / "list.csv").write_bytes(b"path,label\ncaf\xe9.mp4,x\n")
    with pytest.raises(UsageError, match=r"list\.csv: not a csv in UTF-8"):
        scan("folder", tmp_path, csv=tmp_path / "list.csv")
    assert labels(scan("folder", tmp_path)) == {name: name.partition("/")[0] for name in names}


def test_folder_leaves_nothing_out_in_silence(tmp_path: Path) -> None:
    put(tmp_path, "a/1.mp4", "a/deep/er/2.mp4", "train/b/3.mp4", "0.mp4", "a/notes.txt")
    (tmp_path / "a" / "link.mp4").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "a" / "pipe.mp4")
    (tmp_path / os.fsdecode(b"latin\xe9")).mkdir()
    put(tmp_path, os.fsdecode(b"latin\xe9/4.mp4"))
    scan = find_source("folder").scan("folder", tmp_path, Options())
    assert [record.path for record in scan.records] == ["a/1.mp4", "latin\\xe9/4.mp4"]
    assert scan.classes == ("a", "latin\\xe9")
    assert left_out(scan, "unlisted") == (
        "0.mp4",
        "a/deep/er/2.mp4",
        "a/link.mp4",
        "a/notes.txt",
        "a/pipe.mp4",
        "train/b/3.mp4",
    )
