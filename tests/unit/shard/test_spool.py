"""Sets from zipped archives: the same bytes, and never more than two unzipped at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sce_video.errors import SceVideoError, UsageError
from sce_video.shard.convert import ConversionState, convert
from sce_video.shard.plan import ConversionPlan, Settings, make_plan
from sce_video.shard.sources import Record
from sce_video.shard.spool import spooled
from sce_video.shard.verify import verify
from sce_video.shard.worker import FileJob
from sce_video.shardset.index import open_shards
from tests.unit.shard.layouts import put, put_text, read_all, scan, tar


def spools(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("spool*")]


@pytest.fixture(scope="module")
def parts_root(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    """Kinetics of five zipped parts with two videos each, and one video that is unpacked."""
    root = tmp_path_factory.mktemp("parts")
    data = [(clips / f"clip{seed}.mp4").read_bytes() for seed in range(4)]
    names = [f"{n:02d}_000000_000010.mp4" for n in range(11)]
    rows = [f"yoga,{n:02d},0,10,train" for n in range(11)]
    put_text(root, "annotations/train.csv", ["label,youtube_id,time_start,time_end,split", *rows])
    for part in range(5):
        pair = names[2 * part : 2 * part + 2]
        tar(root / f"train/part_{part}.tar.gz", {n: data[int(n[:2]) % 4] for n in pair})
    put(root, f"train/{names[10]}", data=data[2])
    return root


def plan_of(root: Path) -> ConversionPlan:
    return make_plan(scan("kinetics400", root), Settings("k", samples_per_shard=3))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, parts_root: Path) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "k"
    seen: list[int] = []
    convert(
        plan_of(parts_root),
        folder,
        workers=1,
        on_progress=lambda progress: seen.append(len(spools(folder))),
    )
    assert 0 < max(seen) <= 2
    return folder


def test_what_was_zipped_is_what_is_in_the_set(
    parts_root: Path, reference: Path, clips: Path
) -> None:
    assert spools(reference) == []
    assert verify(reference) == 0
    shards = open_shards(reference)
    assert len(shards) == 11
    for row in shards.table.to_pylist():
        tar_bytes = (reference / row["shard"]).read_bytes()
        source = clips / f"clip{int(row['path'][6:8]) % 4}.mp4"
        assert tar_bytes[row["media_offset"] :][: row["media_size"]] == source.read_bytes()
    for name, data in read_all(reference).items():
        assert b"part_" not in data, name


@pytest.mark.parametrize(
    "samples", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 10))]
)
def test_an_interruption_leaves_no_spool(
    samples: int, parts_root: Path, reference: Path, tmp_path: Path
) -> None:
    def interrupt(progress: ConversionState) -> None:
        if progress.samples >= samples:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(plan_of(parts_root), tmp_path / "k", workers=2, on_progress=interrupt)
    assert spools(tmp_path / "k") == []
    (tmp_path / "k/spool-000001.tar.tmp").write_bytes(b"left by a crash")
    convert(plan_of(parts_root), tmp_path / "k", workers=2)
    assert read_all(tmp_path / "k") == read_all(reference)


def test_a_part_that_is_damaged_meanwhile(parts_root: Path, tmp_path: Path) -> None:
    shutil.copytree(parts_root, tmp_path / "raw")
    plan = plan_of(tmp_path / "raw")
    part = tmp_path / "raw/train/part_2.tar.gz"
    part.write_bytes(part.read_bytes()[:-1000])
    with pytest.raises(UsageError, match=r"part_2\.tar\.gz: damaged or cut"):
        convert(plan, tmp_path / "k", workers=1)
    assert spools(tmp_path / "k") == []
    tar(part, {"04_000000_000010.mp4": b"other", "05_000000_000010.mp4": b"other"})
    with pytest.raises(SceVideoError, match=r"part_2\.tar\.gz: train/0\d_.*mp4: changed"):
        convert(plan, tmp_path / "k", workers=1)
    assert spools(tmp_path / "k") == []


def test_never_more_than_two_copies(tmp_path: Path) -> None:
    parts = [tar(tmp_path / f"{n}.tar.gz", {"x.mp4": bytes([n]) * 10}) for n in range(6)]
    records = [Record("x.mp4", part, 10, offset=512) for part in parts for _ in range(3)]
    jobs = [FileJob(record) for record in records]
    seen: list[int] = []

    def work(group: Sequence[FileJob]) -> Iterator[bytes]:
        for job in group:
            seen.append(len(spools(tmp_path)))
            yield (job.copy or tmp_path).read_bytes()[512:522]

    answers = spooled(work, jobs, tmp_path)
    assert list(answers) == [bytes([n // 3]) * 10 for n in range(18)]
    assert max(seen) <= 2
    assert spools(tmp_path) == []


def test_a_copy_without_room_is_named(parts_root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "spool-000000.tar.tmp"
    copy.symlink_to("/dev/full")
    jobs = [FileJob(record) for record in plan_of(parts_root).records if record.part]
    with pytest.raises(OSError, match="No space left") as caught:
        next(spooled(iter, jobs, tmp_path))
    assert caught.value.filename == str(copy)
    assert spools(tmp_path) == []
