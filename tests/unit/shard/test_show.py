"""What people see: sizes, warnings, the summary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sce_video.shard import show
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.sources import Options, find_source
from sce_video.video.encode import Encoding
from tests.odd_videos import encode
from tests.unit.shard.layouts import class_folders, plan_of, run
from tests.unit.shard.test_plan import SETTINGS, some_scan


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (3 << 40, "3.0 TiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_human_bytes(count: int, text: str) -> None:
    assert show.human_bytes(count) == text


def test_a_disk_that_is_too_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = some_scan(10)
    show.warn_of_space(make_plan(scan, SETTINGS), tmp_path / "not/there/yet")
    assert capsys.readouterr().err == ""
    huge = (replace(scan.records[0], size=1 << 60), *scan.records[1:])
    show.warn_of_space(make_plan(replace(scan, records=huge), SETTINGS), tmp_path / "toy")
    assert "toy needs 1048576.0 TiB, there is room for " in capsys.readouterr().err


def test_disk_needed_is_what_it_takes_at_most(tmp_path: Path, clips: Path) -> None:
    plan = plan_of(class_folders(tmp_path / "raw", clips))
    run(plan, tmp_path / "toy")
    taken = sum(path.stat().st_size for path in (tmp_path / "toy").glob("*.tar"))
    # A packet index of some ten seconds is counted; these videos last half a second.
    assert taken <= show.disk_needed(plan) <= taken + len(plan.shards) * 10_240 + 12 * 8_000


def test_summary(tmp_path: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = class_folders(tmp_path / "raw", clips)
    (root / "class1" / "v1_6.mp4").write_bytes(b"no video")
    run(plan_of(root), tmp_path / "toy", max_rejects=0.1)
    show.print_summary(tmp_path / "toy", worked=True, seconds=3723.4)
    lines = capsys.readouterr().out.splitlines()
    assert "  samples       11 videos in 3 shards" in lines
    assert "  classes       3: class0, class1, class2" in lines
    assert "  left out      1 no readable MP4, MOV, Matroska, WebM, AVI or MPEG file" in lines
    assert lines[-3:] == [
        f"  what was left out is named in {tmp_path / 'toy' / 'rejects.csv'}",
        "made in 1:02:03",
        f"next: deepspeed sce_video/train.py data.shards={tmp_path / 'toy'} data.split=null",
    ]
    show.print_summary(tmp_path / "toy", worked=False, seconds=0.1)
    assert "nothing to do" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("encoding", [None, Encoding(quality="fast")])
def test_what_is_not_acted_upon_is_counted(
    encoding: Encoding | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of shards that an earlier run finished."""
    root = tmp_path / "raw" / "class"
    root.mkdir(parents=True)
    for name, x264 in (("a", "sar=4/3"), ("b", "tff=1:sar=4/3"), ("c", ""), ("d", "sar=1/1")):
        encode(root / f"{name}.mp4", x264=x264, ticks=range(0, 400, 40))
    scan = find_source("folder").scan("folder", root.parent, Options())
    plan = make_plan(scan, Settings("toy", samples_per_shard=1, encoding=encoding))
    run(plan, tmp_path / "toy")
    show.print_set(tmp_path / "toy")
    lines = capsys.readouterr().out.splitlines()
    assert "  as stored     1 interlaced: fields are not parted" in lines
    assert "  as stored     2 with pixels that are not square: they are not stretched" in lines
    first = (tmp_path / "toy" / "manifest.json").read_bytes()
    next((tmp_path / "toy").glob("*-000001.tar")).unlink()
    run(plan, tmp_path / "toy")
    assert (tmp_path / "toy" / "manifest.json").read_bytes() == first
