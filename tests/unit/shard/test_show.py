"""What people see: sizes, warnings, the summary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sce_video.shard import show
from sce_video.shard.format import Manifest, ShardEntry
from sce_video.shard.plan import make_plan
from tests.unit.shard.layouts import class_folders
from tests.unit.shard.test_convert import plan_of, run
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


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest(
        dataset="toy",
        plan_digest="0",
        encode={"mode": "copy"},
        classes=("a", "b"),
        splits={"split": {"train": 7, "val": 3}},
        samples=10,
        rejected={"missing": 4, "decode error": 1},
        index_sha256="0",
        shards=(ShardEntry(name="toy-000000.tar", samples=10, bytes=2048, sha256="0"),),
    )
    show.print_summary(manifest, Path("shards/toy"), worked=True)
    assert capsys.readouterr().out.splitlines() == [
        "10 samples in 1 shards, 2.0 KiB, 2 classes: shards/toy",
        "  split: train 7, val 3",
        "left out (named in shards/toy/rejects.csv):",
        "          4  missing",
        "          1  decode error",
        "next: deepspeed sce_video/train.py data.shards=shards/toy",
    ]
