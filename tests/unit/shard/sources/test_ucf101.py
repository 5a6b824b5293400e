"""UCF101 as it is distributed, and lists that are not quite so."""

from __future__ import annotations

from pathlib import Path

import pytest

from sce_video.errors import UsageError
from tests.unit.shard import layouts
from tests.unit.shard.layouts import left_out, put, put_text, scan


def test_ucf101(tmp_path: Path) -> None:
    put(layouts.ucf101(tmp_path), "UCF-101/Biking/extra.avi", "UCF-101/Biking/notes.txt")
    found = scan("ucf101", tmp_path)
    assert found.classes == ("Archery", "Biking")
    assert found.columns == ("split1", "split2", "split3")
    assert [r.path for r in found.records] == [
        "UCF-101/Archery/v_Archery_g01_c01.avi",
        "UCF-101/Archery/v_Archery_g01_c02.avi",
        "UCF-101/Biking/v_Biking_g01_c01.avi",
    ]
    assert found.records[0].splits == {"split1": "test", "split2": "train", "split3": "train"}
    assert [r.label for r in found.records] == [0, 0, 1]
    assert left_out(found, "missing") == ("UCF-101/Biking/v_Biking_g01_c02.avi",)
    assert left_out(found, "elsewhere") == ("UCF-101/Biking/extra.avi",)
    assert left_out(found, "not a video") == ("UCF-101/Biking/notes.txt",)


def test_ucf101_in_train_and_test_of_one_split(tmp_path: Path) -> None:
    layouts.ucf101(tmp_path)
    with (tmp_path / "ucfTrainTestlist/testlist02.txt").open("a") as stream:
        stream.write("Archery/v_Archery_g01_c01.avi\n")
    assert left_out(scan("ucf101", tmp_path), "conflicting") == (
        "UCF-101/Archery/v_Archery_g01_c01.avi",
    )


def test_ucf101_lines_that_end_in_blanks_or_come_twice(tmp_path: Path) -> None:
    before = scan("ucf101", layouts.ucf101(tmp_path))
    for path in (tmp_path / "ucfTrainTestlist").iterdir():
        lines = path.read_text().splitlines()
        put_text(tmp_path, f"ucfTrainTestlist/{path.name}", [f"{line} \r" for line in lines * 2])
    assert scan("ucf101", tmp_path) == before
    put_text(tmp_path, "ucfTrainTestlist/classInd.txt", ["1 Archery"])
    with pytest.raises(UsageError, match=r"classInd\.txt: no class 'Biking'"):
        scan("ucf101", tmp_path)


def test_transcoded_ucf101_is_what_the_lists_mean(tmp_path: Path) -> None:
    layouts.ucf101(tmp_path)
    videos = tmp_path / "UCF-101"
    for path in videos.glob("*/*.avi"):
        path.rename(path.with_suffix(".mp4"))
    put(videos, "Archery/v_Archery_g01_c02.MKV", "Biking/v_Biking_g01_c01.avi")
    put(videos, "Biking/deep/v_Biking_g01_c02.webm", "Biking/v_Archery_g01_c01.mp4")
    found = scan("ucf101", tmp_path)
    assert {r.path.removeprefix("UCF-101/"): r.label for r in found.records} == {
        "Archery/v_Archery_g01_c01.mp4": 0,
        "Archery/v_Archery_g01_c02.MKV": 0,
        "Biking/v_Biking_g01_c01.avi": 1,  # as it is listed
        "Biking/deep/v_Biking_g01_c02.webm": 1,
    }
    assert found.records[0].splits == {"split1": "test", "split2": "train", "split3": "train"}
    assert set(found.rejects) == {
        ("UCF-101/Archery/v_Archery_g01_c02.mp4", "another file of this stem is taken"),
        ("UCF-101/Biking/v_Biking_g01_c01.mp4", "another file of this stem is taken"),
        ("UCF-101/Biking/v_Archery_g01_c01.mp4", "in no list or class folder"),
    }


@pytest.mark.parametrize("place", ["videos/", ""])
def test_ucf101_in_another_folder(place: str, tmp_path: Path) -> None:
    layouts.ucf101(tmp_path)
    expected = [record.path for record in scan("ucf101", tmp_path).records]
    for folder in sorted((tmp_path / "UCF-101").iterdir()):
        (tmp_path / place).mkdir(exist_ok=True)
        folder.rename(tmp_path / place / folder.name)
    found = scan("ucf101", tmp_path)
    assert [r.path for r in found.records] == [p.replace("UCF-101/", place) for p in expected]
    assert left_out(found, "missing") == (f"{place}Biking/v_Biking_g01_c02.avi",)
