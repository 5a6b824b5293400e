"""HMDB51 as it is distributed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sce_video.errors import UsageError
from tests.unit.shard.layouts import left_out, put, put_text, scan


def test_hmdb51(tmp_path: Path) -> None:
    names = ["(Rad)Schlag_die_Bank!_x_0.avi", "Goal_#_2_[NEW];-)_300+_1.avi", "twice.avi", "un.avi"]
    put(tmp_path, *(f"catch/{name}" for name in names), "catch/stray.avi")
    for split, flags in ((1, "1210"), (2, "2120"), (3, "0010")):
        lines = [f"{name} {flag} " for name, flag in zip(names, flags, strict=True)]
        put_text(
            tmp_path,
            f"testTrainMulti_7030_splits/catch_test_split{split}.txt",
            [*lines, lines[2], "gone.avi 1 "],
        )
        put_text(
            tmp_path, f"testTrainMulti_7030_splits/brush_hair_test_split{split}.txt", ["a.avi 1 "]
        )
    found = scan("hmdb51", tmp_path)
    assert found.classes == ("brush_hair", "catch")
    splits = {r.path: dict(r.splits) for r in found.records}
    assert splits == {
        "catch/(Rad)Schlag_die_Bank!_x_0.avi": {"split1": "train", "split2": "test"},
        "catch/Goal_#_2_[NEW];-)_300+_1.avi": {"split1": "test", "split2": "train"},
        "catch/twice.avi": {"split1": "train", "split2": "test", "split3": "train"},
        "catch/un.avi": {},
    }
    assert left_out(found, "missing") == ("brush_hair/a.avi", "catch/gone.avi")
    assert left_out(found, "elsewhere") == ("catch/stray.avi",)
    assert left_out(found, "conflicting") == ()


def test_transcoded_hmdb51_is_what_the_lists_mean(tmp_path: Path) -> None:
    put(tmp_path, "catch/a.b_1.mp4", "catch/a.b_2.mp4", "catch/catch/c.mkv", "d.mp4")
    lines = ["a.b_1.avi 1 ", "a.b_2.avi 2 ", "c.avi 0 ", "d.avi 1 "]
    put_text(tmp_path, "testTrainMulti_7030_splits/catch_test_split1.txt", lines)
    found = scan("hmdb51", tmp_path)
    assert {record.path: dict(record.splits) for record in found.records} == {
        "catch/a.b_1.mp4": {"split1": "train"},
        "catch/a.b_2.mp4": {"split1": "test"},
        "catch/catch/c.mkv": {},
    }
    assert found.rejects == (
        ("catch/d.avi", "missing"),
        ("d.mp4", "in no list or class folder"),
    )


def test_class_folders_in_a_folder_as_the_archive_is_called(tmp_path: Path) -> None:
    put(tmp_path, "hmdb51_org/catch/a.avi", "hmdb51_org/catch/b.avi")
    lines = ["a.avi 1 ", "b.avi 2 ", "gone.avi 1 "]
    put_text(tmp_path, "testTrainMulti_7030_splits/catch_test_split1.txt", lines)
    found = scan("hmdb51", tmp_path)
    assert {record.path: dict(record.splits) for record in found.records} == {
        "hmdb51_org/catch/a.avi": {"split1": "train"},
        "hmdb51_org/catch/b.avi": {"split1": "test"},
    }
    assert found.rejects == (("hmdb51_org/catch/gone.avi", "missing"),)
    put(tmp_path, "small/catch/a.avi")
    with pytest.raises(UsageError, match="its classes lie in 'hmdb51_org/' and in 'small/'"):
        scan("hmdb51", tmp_path)
    put(tmp_path, "catch/a.avi")  # where they should be
    assert [record.path for record in scan("hmdb51", tmp_path).records] == ["catch/a.avi"]
