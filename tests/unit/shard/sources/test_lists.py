"""Lists of files: a csv with a header, and lines ``path label``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sce_video.errors import UsageError
from sce_video.text import one_line
from tests.unit.shard.layouts import labels, left_out, put, put_text, scan


def test_csv(tmp_path: Path) -> None:
    put(tmp_path, "x/1.mp4", "x/2.mp4", "x/3.mp4", "x/4.mp4", "x/4.jpg")
    listing = tmp_path / "list.csv"
    rows = [f"{tmp_path}/x/1.mp4,10,train", "x/2.mp4,9,val", "x/3.mp4,,train", "gone.mp4,9,val"]
    put_text(tmp_path, "list.csv", ["path,label,split", *rows, "x/1.mp4,9,train"])
    found = scan("folder", tmp_path, csv=listing)
    assert found.classes == ("9", "10")
    assert labels(found) == {"x/1.mp4": "10", "x/2.mp4": "9", "x/3.mp4": ""}
    assert left_out(found, "missing") == ("gone.mp4",)
    assert left_out(found, "conflicting") == ("x/1.mp4",)
    assert left_out(found, "elsewhere") == ("x/4.mp4",)
    assert left_out(found, "picture beside videos") == ("x/4.jpg",)
    val = scan("folder", tmp_path, csv=listing, splits=("val",))
    assert [r.path for r in val.records] == ["x/2.mp4"]
    assert left_out(val, "elsewhere") == ("x/4.mp4",)
    with pytest.raises(UsageError, match="no split 'dev' in it"):
        scan("folder", tmp_path, csv=listing, splits=("dev",))
    for line in ("../x/1.mp4,1,", "/x/1.mp4,1,"):
        put_text(tmp_path, "list.csv", ["path,label,split", line])
        with pytest.raises(UsageError, match=r"line 2: .* is not below the root"):
            scan("folder", tmp_path, csv=listing)
    put_text(tmp_path, "list.csv", ["x/1.mp4 1"])
    with pytest.raises(UsageError, match=r"wants a first line path,label\[,split\]; .* --list"):
        scan("folder", tmp_path, csv=listing)


def test_csv_with_quotes_and_unicode(tmp_path: Path) -> None:
    names = ["a, b/clip 1.mp4", 'it\'s "x"/é+[1]!.mkv', "日本/ß;#.webm", "c/d.mpg", "c/e.avi"]
    put(tmp_path, *names)
    rows = ['"' + name.replace('"', '""') + '","Tai ""Chi"", old",train' for name in names]
    put_text(tmp_path, "list.csv", ["\ufeffpath,label,split", *rows, *rows])
    found = scan("folder", tmp_path, csv=tmp_path / "list.csv")
    assert labels(found) == dict.fromkeys(sorted(names), 'Tai "Chi", old')
    assert found.rejects == ()
    (tmp_path / "list.csv").write_bytes(b"path,label\ncaf\xe9.mp4,x\n")
    with pytest.raises(UsageError, match=r"list\.csv: not a csv in UTF-8"):
        scan("folder", tmp_path, csv=tmp_path / "list.csv")
    assert labels(scan("folder", tmp_path)) == {name: name.partition("/")[0] for name in names}


@pytest.mark.parametrize("between", [" ", ",", "\t", ", ", "  "])
def test_lines_of_path_and_label(between: str, tmp_path: Path) -> None:
    """As SlowFast, VideoMAE and mmaction2 write them."""
    names = ["a b/clip 1 2.mp4", "c, d/é.mkv", "e/f.webm", "e/rest.mp4"]
    put(tmp_path, *names)
    listed = [names[0], f"{tmp_path}/{names[1]}", f'"{names[2]}"', "gone.mp4"]
    lines = [f"{name}{between}{label}" for name, label in zip(listed, (10, 9, -1, 3), strict=True)]
    put_text(tmp_path, "train.csv", [*lines, "", "e/f.webm 4"])
    found = scan("folder", tmp_path, lists=(str(tmp_path / "train.csv"),))
    assert (found.classes, found.columns) == (("3", "9", "10"), ())
    assert labels(found) == {names[0]: "10", names[1]: "9", names[2]: ""}
    assert set(found.rejects) == {
        ("gone.mp4", "missing"),
        ("e/f.webm", "listed twice with different labels or splits"),
        ("e/rest.mp4", "in no list or class folder"),
    }


def test_lists_of_splits(tmp_path: Path) -> None:
    put(tmp_path, "1.mp4", "2.mp4", "3.mp4", "4.mp4")
    put_text(tmp_path, "train.csv", ["1.mp4 0", "2.mp4 1"])
    put_text(tmp_path, "val.txt", ["3.mp4 7", "1.mp4 0"])
    lists = (f"train={tmp_path / 'train.csv'}", f"val={tmp_path / 'val.txt'}")
    found = scan("folder", tmp_path, lists=lists)
    assert found.classes == ("0", "1", "7")
    assert {r.path: r.splits["split"] for r in found.records} == {
        "1.mp4": "train",
        "2.mp4": "train",
        "3.mp4": "val",
    }
    assert left_out(found, "conflicting") == ("1.mp4",)
    val = scan("folder", tmp_path, lists=lists, splits=("val",))
    assert (val.classes, labels(val)) == (found.classes, {"3.mp4": "7"})
    assert left_out(val, "elsewhere") == ("4.mp4",)
    for wrong in ((lists[0][6:], lists[1]), (lists[0], lists[0][:6] + lists[1][4:])):
        with pytest.raises(UsageError, match="name each split once: --list train=FILE val=FILE"):
            scan("folder", tmp_path, lists=wrong)
    with pytest.raises(UsageError, match="--split needs lists with names: --list train=FILE"):
        scan("folder", tmp_path, lists=(lists[0][6:],), splits=("train",))


def test_lists_whose_paths_begin_in_a_folder_each(tmp_path: Path) -> None:
    """As mmaction2 has them."""
    put(tmp_path, "videos_train/a/1.mp4", "videos_train/b/2.mp4", "videos_val/a/3.mp4")
    put_text(tmp_path, "train_list.txt", ["a/1.mp4 0", "b/2.mp4 1", "b/gone.mp4 1"])
    put_text(tmp_path, "val_list.txt", ["a/3.mp4 0"])
    lists = (f"train={tmp_path / 'train_list.txt'}", f"val={tmp_path / 'val_list.txt'}")
    found = scan("folder", tmp_path, lists=lists)
    assert labels(found) == {
        "videos_train/a/1.mp4": "0",
        "videos_train/b/2.mp4": "1",
        "videos_val/a/3.mp4": "0",
    }
    assert found.rejects == (("videos_train/b/gone.mp4", "missing"),)
    put(tmp_path, "videos_val/b/2.mp4")
    with pytest.raises(UsageError, match=r"'a/1.mp4' and so on lie in 'videos_train/' and 'videos"):
        scan("folder", tmp_path, lists=lists)


def test_lists_without_labels(tmp_path: Path) -> None:
    put(tmp_path, "a b.mp4", "c.mp4")
    put_text(tmp_path, "list.txt", ["a b.mp4", "c.mp4 3"])
    found = scan("folder", tmp_path, lists=(str(tmp_path / "list.txt"),), unlabelled=True)
    assert labels(found) == {"a b.mp4": "", "c.mp4": ""}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("path,label", "'path,label' is no 'path label' .* a header .* is for --csv"),
        ("a/1.mp4 yoga", "no 'path label' with a whole number .* class names is for --csv"),
        ("a/1.mp4", "one without labels needs --unlabelled"),
        ("a/frames 120 3", "more than a path and one label; lists of frame folders"),
        ("a/1.mp4 1 2 3", "more than a path and one label; .* of several labels"),
        ("a/1.mp4 0 -1", "more than a path and one label"),
        ("a/1.mp4 0.0 10.00 3", "more than a path and one label; .* parts of videos"),
        ("/x/1.mp4 3", "'/x/1.mp4' is not below the root"),
        ("../1.mp4 3", "is not below the root"),
    ],
)
def test_lines_that_are_something_else(line: str, message: str, tmp_path: Path) -> None:
    put(tmp_path, "a/1.mp4", "a/2.mp4")
    put_text(tmp_path, "list.txt", ["a/2.mp4 1", line])
    with pytest.raises(UsageError, match=rf"list\.txt, line 2: .*{message}"):
        scan("folder", tmp_path, lists=(str(tmp_path / "list.txt"),))


def test_lists_in_vain(tmp_path: Path) -> None:
    put(tmp_path, "a/1.mp4", "a/2.jpg")
    put_text(tmp_path, "list.txt", ["b/1.mp4 1"])
    one = str(tmp_path / "list.txt")
    with pytest.raises(UsageError, match=r"that \S+list\.txt lists \(such as 'b/1\.mp4'\)"):
        scan("folder", tmp_path, lists=(one,))
    with pytest.raises(UsageError, match="--csv and --list: give one of them"):
        scan("folder", tmp_path, lists=(one,), csv=tmp_path / "list.txt")
    with pytest.raises(UsageError, match=r"--list no\.txt: no such file"):
        scan("folder", tmp_path, lists=("val=no.txt",))
    put_text(tmp_path, "list.txt", ["a/1.mp4 1", "a/2.jpg 1"])
    with pytest.raises(UsageError, match=r"list\.txt: videos and images in one list \(a/1\.mp4, "):
        scan("folder", tmp_path, lists=(one,))


def test_what_a_list_names_is_taken_wherever_it_lies(tmp_path: Path) -> None:
    put(tmp_path, ".cache/1.mp4", "a/2.mp4")
    (tmp_path / "b").symlink_to("a")
    put_text(tmp_path, "list.txt", [".cache/1.mp4 1", "b/2.mp4 2"])
    found = scan("folder", tmp_path, lists=(str(tmp_path / "list.txt"),))
    assert [record.path for record in found.records] == [".cache/1.mp4", "b/2.mp4"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"path,label\n" + b"x" * 200_000 + b",1\n", "not a csv in UTF-8 .field larger than"),
        (b"path,label\n" + bytes(1 << 20), "not a csv in UTF-8 .a line of 1,048,576 characters"),
        (b"path,label\n\xff,1\n", "not a csv in UTF-8"),
        (b"path,label,label\na/1.mp4,1,2\n", "two columns 'label'; name each once"),
        (b"", "no column 'path'; --csv wants a first line path,label"),
        (b"\0\n", "no column 'path'"),
    ],
    ids=["field", "line", "bytes", "twice", "empty", "zero"],
)
def test_a_csv_that_is_none_is_told_in_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    put(tmp_path, "a/1.mp4")
    put(tmp_path, "list.csv", data=data)
    with pytest.raises(UsageError, match=rf"list\.csv: {message}") as caught:
        scan("folder", tmp_path, csv=tmp_path / "list.csv")
    assert len(str(caught.value).splitlines()) == 1


def test_columns_without_a_name_are_not_read(tmp_path: Path) -> None:
    """Sheets leave commas behind the last column."""
    put(tmp_path, "a/1.mp4")
    put_text(tmp_path, "list.csv", ["path,label,,", "a/1.mp4,1,,"])
    assert labels(scan("folder", tmp_path, csv=tmp_path / "list.csv")) == {"a/1.mp4": "1"}


@pytest.mark.parametrize("name", ["n" * 300, "n/" * 3000 + "x", "a\0b", "\x1b[2J", "circle/x"])
def test_a_listed_name_that_no_file_can_have_is_missing(name: str, tmp_path: Path) -> None:
    put(tmp_path, "a/1.mp4")
    (tmp_path / "circle").symlink_to("circle")
    put_text(tmp_path, "list.csv", ["path,label", "a/1.mp4,1", f"{name},{'9' * 500}"])
    found = scan("folder", tmp_path, csv=tmp_path / "list.csv")
    assert labels(found) == {"a/1.mp4": "1"}
    assert left_out(found, "missing") == (one_line(name.rstrip("/")),)
    put_text(tmp_path, "list.txt", ["a/1.mp4 1", f"{name} {'9' * 500}"])
    listed = scan("folder", tmp_path, lists=(str(tmp_path / "list.txt"),))
    assert left_out(listed, "missing") == left_out(found, "missing")


def test_a_pipe_is_no_list(tmp_path: Path) -> None:
    put(tmp_path, "a/1.mp4")
    os.mkfifo(tmp_path / "list")
    for options in ({"csv": tmp_path / "list"}, {"lists": (str(tmp_path / "list"),)}):
        with pytest.raises(UsageError, match=r"list: no such file$"):
            scan("folder", tmp_path, **options)
    with pytest.raises(UsageError, match="no such file"):
        scan("folder", tmp_path, lists=("n" * 300,))
