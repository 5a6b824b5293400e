"""Folders of one's own: by class, by split and class, without labels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sce_video.errors import UsageError
from tests.unit.shard.layouts import labels, left_out, put, scan


def splits(root: Path, **options: object) -> dict[str, tuple[str, str]]:
    """Path -> (split, class) of each sample."""
    found = scan("folder", root, **options)
    assert found.columns == ("split",)
    names = labels(found)
    return {record.path: (record.splits["split"], names[record.path]) for record in found.records}


def test_folder_classes(tmp_path: Path) -> None:
    put(tmp_path, "b c/2.mp4", "a/1.AVI", "a/.hidden.mp4", "a/note.txt", "loose.mp4", "a/3.jpg")
    found = scan("folder", tmp_path)
    assert (found.media, found.classes, found.columns) == ("video", ("a", "b c"), ())
    assert labels(found) == {"a/1.AVI": "a", "b c/2.mp4": "b c"}
    assert set(found.rejects) == {
        ("a/note.txt", "not a video"),
        ("loose.mp4", "in no list or class folder"),
        ("a/3.jpg", "picture beside videos"),
    }
    loose, picture = found.notes
    assert loose.startswith("1 left out: in no list or class folder (first 'loose.mp4'); say what")
    assert "--csv or --list" in loose
    assert picture.startswith("1 left out: picture beside videos (first 'a/3.jpg'); shard them")


def test_folder_unlabelled(tmp_path: Path) -> None:
    put(tmp_path, "x.mp4", "deep/er/y.mkv", "deep/poster.png")
    found = scan("folder", tmp_path, unlabelled=True)
    assert [(r.path, r.label) for r in found.records] == [("deep/er/y.mkv", -1), ("x.mp4", -1)]
    assert found.classes == ()
    assert found.rejects == (("deep/poster.png", "picture beside videos"),)


def test_files_in_sub_folders_are_of_the_first_folders_class(tmp_path: Path) -> None:
    put(tmp_path, "a/1.mp4", "a/deep/er/2.mp4", "b/x/3.mp4", "train/4.mp4")
    found = scan("folder", tmp_path)
    assert labels(found) == {
        "a/1.mp4": "a",
        "a/deep/er/2.mp4": "a",
        "b/x/3.mp4": "b",
        "train/4.mp4": "train",
    }
    nested, split = found.notes
    assert nested.endswith("count to their first folder: 'a/deep/er/2.mp4' is of class 'a'")
    assert split.startswith("'train' is taken for a class")


def test_split_folders(tmp_path: Path) -> None:
    put(tmp_path, "Train/a/1.mp4", "Train/b/deep/2.mp4", "valid/b/3.mp4", "testing/c/4.mp4")
    put(tmp_path, "Train/5.mp4", "6.mp4", "README.txt", "covers/7.jpg", "valid/b/8.jpg")
    assert splits(tmp_path) == {
        "Train/a/1.mp4": ("train", "a"),
        "Train/b/deep/2.mp4": ("train", "b"),
        "valid/b/3.mp4": ("val", "b"),
        "testing/c/4.mp4": ("test", "c"),
    }
    assert left_out(scan("folder", tmp_path), "elsewhere") == ("6.mp4", "Train/5.mp4")
    val = scan("folder", tmp_path, splits=("val",))
    assert (val.classes, labels(val)) == (("a", "b", "c"), {"valid/b/3.mp4": "b"})
    assert left_out(val, "elsewhere") == ("6.mp4",)
    assert left_out(val, "picture beside videos") == ("covers/7.jpg", "valid/b/8.jpg")
    with pytest.raises(UsageError, match="folder: no split 'dev'; it has train, "):
        scan("folder", tmp_path, splits=("dev",))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train/a/1.mp4", "b/2.mp4"], "'train' holds class folders as a split does, and 'b' lies"),
        (["train/1.mp4", "test/2.mp4"], "'test' holds files and no class folders; give their cl"),
        (["val/a/1.mp4", "valid/a/2.mp4"], "'val' and 'valid' are one split; move one away"),
        (
            ["data/a/1.mp4", "data/b/2.mp4"],
            "below 'data' and in folders there; give that as --root, or",
        ),
        (["1.mp4", "2.mov"], r"expected class folders .*; found 1 \.mp4, 1 \.mov \(elsewhere\)"),
        (["a/1.jpg", "b/2.mp4"], "1 videos and 1 pictures, and either may be meant; list those"),
        (["a/1.mts", "b/2.flv", "b/3.jpg"], r"1 \.mts, 1 \.flv \(not read: MP4, MOV, .* are; co"),
        (["a/1.webp", "b/2.bmp"], r"1 \.webp, 1 \.bmp \(not read: JPEG and PNG are; convert them"),
        (["a/1", "b/2"], r"found 2 files of other names \(first 'a/1'\)"),
        (["\n/x/1.mp4"], r"below '\\\\n' and in folders there"),
        (["a.zip", "b.rar", "c.tar.gz"], r"found 1 \.zip, 1 \.rar, 1 \.gz \(packed\)"),
    ],
)
def test_what_is_not_clear_is_refused_with_the_way_out(
    files: list[str], message: str, tmp_path: Path
) -> None:
    put(tmp_path, *files)
    with pytest.raises(UsageError, match=message) as caught:
        scan("folder", tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("videos", "pictures", "meant"),
    [
        ("a b c", "a b c", "video"),  # a thumbnail to each
        ("a b c d", "thumbs a b c d", "video"),
        ("a b", "thumbs", "video"),
        ("a", "a b", "image"),  # a stray video
        ("a", "a b c d", "image"),
        ("a b c", "b", "video"),
        ("a b", "a b c", ""),
        ("a b", "b c d", ""),
        ("a b", "c d", ""),
    ],
)
def test_the_kind_that_is_meant(videos: str, pictures: str, meant: str, tmp_path: Path) -> None:
    put(tmp_path, *(f"{name}/1.mp4" for name in videos.split()))
    put(tmp_path, *(f"{name}/{n}.jpg" for name in pictures.split() for n in range(2)))
    if meant:
        found = scan("folder", tmp_path)
        assert (found.media, len(found.records) + len(found.rejects)) == (
            meant,
            len(videos.split()) + 2 * len(pictures.split()),
        )
    else:
        with pytest.raises(UsageError, match="either may be meant"):
            scan("folder", tmp_path)


def test_frames_beside_their_videos_are_not_clear(tmp_path: Path) -> None:
    put(tmp_path, "a/1.mp4", "b/2.mp4")
    put(tmp_path, *(f"{name}/frames/{n}.jpg" for name in "ab" for n in range(11)))
    with pytest.raises(UsageError, match="2 videos and 22 pictures, and either may be meant"):
        scan("folder", tmp_path)


def test_containers_that_are_not_read_are_named(tmp_path: Path) -> None:
    put(tmp_path, "a/1.mp4", "a/2.ts", "b/3.WMV", "b/4.gif", "b/5.vob", "all.tar.gz", "b/mp4")
    found = scan("folder", tmp_path)
    assert labels(found) == {"a/1.mp4": "a", "b/5.vob": "b"}
    assert left_out(found, "container not read: convert to mp4") == ("a/2.ts", "b/3.WMV", "b/4.gif")
    assert left_out(found, "archive not read") == ("all.tar.gz",)
    assert left_out(found, "not a video") == ("b/mp4",)
    assert "MP4, MOV, Matroska, WebM, AVI and MPEG are read" in found.notes[0]


def test_folder_leaves_nothing_out_in_silence(tmp_path: Path) -> None:
    put(tmp_path, "a/1.mp4", "a/deep/er/2.mp4", "0.mp4", "a/notes.txt")
    (tmp_path / "a" / "link.mp4").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "a" / "pipe.mp4")
    (tmp_path / os.fsdecode(b"latin\xe9")).mkdir()
    put(tmp_path, os.fsdecode(b"latin\xe9/4.mp4"))
    found = scan("folder", tmp_path)
    assert found.classes == ("a", "latin\\xe9")
    paths = ["a/1.mp4", "a/deep/er/2.mp4", "latin\\xe9/4.mp4"]
    assert [record.path for record in found.records] == paths
    assert set(found.rejects) == {
        ("0.mp4", "in no list or class folder"),
        ("a/link.mp4", "link to nowhere"),
        ("a/notes.txt", "not a video"),
        ("a/pipe.mp4", "neither a file nor a folder"),
    }
