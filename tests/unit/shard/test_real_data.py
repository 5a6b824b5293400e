"""The data sets' own files, in their own layouts."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest

from sce_video.shard.convert import convert
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.sources import Options, find_source
from sce_video.shard.verify import verify
from sce_video.shardset.index import ShardIndex, open_shards
from sce_video.shardset.reasons import ELSEWHERE
from sce_video.video.examine import examine_video


def shard(
    name: str, root: Path, out: Path, limit: int | None = None, *, unlabelled: bool = False
) -> ShardIndex:
    scan = find_source(name).scan(name, root, Options(unlabelled=unlabelled))
    convert(make_plan(scan, Settings(name, limit=limit)), out, workers=2)
    assert verify(out) == 0
    return open_shards(out)


def test_ucf101(real_data: Path, tmp_path: Path) -> None:
    shards = shard("ucf101", real_data / "ucf101", tmp_path / "s", limit=30)
    manifest = shards.manifest
    assert (len(manifest.classes), manifest.classes[10]) == (101, "Biking")
    assert (len(shards), manifest.rejected) == (30, {"missing": 13_320 - 117})
    assert len(set(shards.strings("class"))) > 15
    for row in shards.table.to_pylist():
        assert row["class"] == row["path"].split("/")[1]
        assert {row[f"split{n}"] for n in (1, 2, 3)} <= {"train", "test"}
        assert (row["width"], row["height"], row["ext"]) == (320, 240, "avi")
        assert row["fps"] == pytest.approx(25, rel=0.02) or row["fps"] == pytest.approx(29.97, 0.02)


def test_hmdb51(real_data: Path, tmp_path: Path) -> None:
    shards = shard("hmdb51", real_data / "hmdb51", tmp_path / "s")
    assert len(shards.manifest.classes) == 51
    assert (len(shards), shards.manifest.rejected) == (6, {"missing": 6760, ELSEWHERE: 1})
    assert "golf/Golf_Tips_-_Hit_The_Driver_300+_Yards!!!_golf_f_nm_np1_fr_med_0.avi" in (
        shards.strings("path")
    )
    assert f"cartwheel/cartwheel.avi,{ELSEWHERE}\n" in (tmp_path / "s/rejects.csv").read_text()


def test_kinetics400(real_data: Path, tmp_path: Path) -> None:
    shards = shard("kinetics400", real_data / "kinetics400", tmp_path / "s", limit=2)
    manifest = shards.manifest
    official = real_data / "kinetics400/annotations/label_map_k400.txt"
    assert list(manifest.classes) == official.read_text().splitlines()
    assert manifest.rejected == {"missing": 19_906 - 8}
    assert manifest.splits == {"split": {"val": 2}}
    assert all(abs(seconds - 10) < 0.1 for seconds in shards.numbers("duration"))


def test_kinetics_as_torchvision_leaves_it(real_data: Path, tmp_path: Path) -> None:
    """All 400 class folders, by the rule of ``torchvision.datasets.Kinetics``; the clips linked."""
    lists = real_data / "kinetics400/annotations"
    names = (lists / "label_map_k400.txt").read_text().splitlines()
    shutil.copytree(lists, tmp_path / "annotations")
    folders = {n: re.sub("['()]", "", n.replace(" ", "_")) for n in names}
    for number, folder in enumerate(folders.values()):
        (tmp_path / "train" / folder).mkdir(parents=True)
        (tmp_path / "train" / folder / f"{number}.mp4").write_bytes(b"")
    with (lists / "val.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            start, end = int(row["time_start"]), int(row["time_end"])
            clip = real_data / f"kinetics400/val/{row['youtube_id']}_{start:06}_{end:06}.mp4"
            if clip.exists():
                place = tmp_path / "val" / folders[row["label"]]
                place.mkdir(parents=True, exist_ok=True)
                (place / clip.name).symlink_to(clip)
    found = find_source("kinetics400").scan("kinetics400", tmp_path, Options())
    by_list = find_source("kinetics400").scan("kinetics400", real_data / "kinetics400", Options())
    assert found.classes == by_list.classes == tuple(names)
    train = {r.stem: r.label for r in found.records if r.splits["split"] == "train"}
    assert train == {str(number): number for number in range(400)}
    val = {r.stem: r.label for r in found.records if r.splits["split"] == "val"}
    assert val == {r.stem: r.label for r in by_list.records}


def test_transcoded_ucf101(real_data: Path, tmp_path: Path) -> None:
    """The same videos under another suffix have the same labels and splits."""
    (tmp_path / "ucfTrainTestlist").symlink_to(real_data / "ucf101/ucfTrainTestlist")
    for path in (real_data / "ucf101/UCF-101").glob("*/*.avi"):
        place = tmp_path / "UCF-101" / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{path.stem}.mp4").symlink_to(path)
    scans = [
        find_source("ucf101").scan("ucf101", r, Options()) for r in (real_data / "ucf101", tmp_path)
    ]
    own, other = ({r.stem: (r.label, r.splits) for r in found.records} for found in scans)
    assert own == other
    assert scans[0].rejects == scans[1].rejects


def test_images(real_data: Path, tmp_path: Path) -> None:
    shards = shard("imagenet", real_data / "imagenet", tmp_path / "full")
    assert (len(shards), len(shards.manifest.classes)) == (100, 100)
    tiny = shard("imagenet", real_data / "tiny-imagenet", tmp_path / "tiny", limit=200)
    assert set(tiny.numbers("width")) == {64}
    assert set(tiny.manifest.splits["split"]) == {"train", "val"}
    assert len(tiny.manifest.classes) == 40


def test_loose_and_odd(real_data: Path, tmp_path: Path) -> None:
    loose = shard("folder", real_data / "loose", tmp_path / "loose")
    assert "tai chi" in loose.manifest.classes
    odd = shard("folder", real_data / "odd", tmp_path / "odd", unlabelled=True)
    found = {row["path"]: (row["ext"], row["frames"]) for row in odd.table.to_pylist()}
    assert found["vid.mp4"] == ("webm", 49)  # a WebM called .mp4
    assert found["v_biking_01_01.mpg"] == ("mpg", 151)
    assert found["hollywood2_actioncliptrain00001_h264.mp4"] == ("mp4", 201)
    assert not odd.manifest.rejected


def test_facts_agree_with_the_container(real_data: Path) -> None:
    path = real_data / "loose" / "arm wrestling" / "demo.mp4"
    facts = examine_video(path.read_bytes())
    assert (facts.frames, facts.fps, facts.duration) == (280, 28.0, 10.0)
    assert (facts.width, facts.height, facts.codec) == (340, 256, "h264")
