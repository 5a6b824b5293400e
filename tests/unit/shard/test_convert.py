"""Conversion: identical bytes for any number of workers and interruptions, and rejects."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sce_video.errors import SceVideoError, UsageError
from sce_video.shard import convert as converter
from sce_video.shard import writer
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.sources import Options, find_source
from sce_video.shard.verify import verify
from sce_video.shard.writer import TarWriter
from sce_video.shardset.index import open_shards
from sce_video.shardset.manifest import JOURNAL_NAME
from sce_video.video.encode import Encoding
from sce_video.video.packets import PacketIndex
from tests.conftest import REPOSITORY
from tests.unit.shard.layouts import class_folders, content, interrupt_after, plan_of, put, run


def test_what_a_set_holds(root: Path, reference: Path) -> None:
    shards = open_shards(reference)
    assert len(shards) == shards.manifest.samples == 11
    assert [entry.samples for entry in shards.manifest.shards].count(4) == 2
    assert shards.manifest.rejected == {"no readable MP4, MOV, Matroska, WebM, AVI or MPEG file": 1}
    assert shards.manifest.classes == ("class0", "class1", "class2")
    raw = {entry.name: (reference / entry.name).read_bytes() for entry in shards.manifest.shards}
    for row in shards.table.to_pylist():
        tar = raw[row["shard"]]
        media = tar[row["media_offset"] :][: row["media_size"]]
        assert media == (root / row["path"]).read_bytes()
        fields = json.loads(tar[row["json_offset"] :][: row["json_size"]])
        assert fields["path"] == row["path"]
        assert (row["ext"], row["width"], row["height"], row["fps"]) == ("mp4", 64, 48, 25.0)
        assert (row["class"], row["label"]) == (row["path"][:6], int(row["path"][5]))
        packets = PacketIndex.from_bytes(tar[row["idx_offset"] :][: row["idx_size"]])
        assert packets.frames == row["frames"]
    with (reference / "rejects.csv").open(newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["path", "reason"],
            ["class1/v1_6.mp4", "no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"],
        ]
    assert verify(reference) == 0


def test_no_trace_of_place_or_time(root: Path, reference: Path, tmp_path: Path) -> None:
    for name, data in content(reference).items():
        assert str(root).encode() not in data, name
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(root, elsewhere, copy_function=shutil.copyfile)
    run(plan_of(elsewhere), tmp_path / "toy", max_rejects=0.1)
    assert content(tmp_path / "toy") == content(reference)


def test_two_workers_write_the_same_bytes(root: Path, reference: Path, tmp_path: Path) -> None:
    run(plan_of(root), tmp_path / "toy", workers=2, max_rejects=0.1)
    assert content(tmp_path / "toy") == content(reference)


@pytest.mark.slow
def test_layered_sets_are_the_same_bytes_too(root: Path, tmp_path: Path) -> None:
    scan = find_source("folder").scan("folder", root, Options())
    settings = Settings("toy", samples_per_shard=4, encoding=Encoding(quality="fast"))
    plan = make_plan(scan, settings)
    for name, workers in (("one", 1), ("two", 2)):
        with pytest.raises(KeyboardInterrupt):
            run(
                plan,
                tmp_path / name,
                workers,
                max_rejects=0.1,
                on_progress=interrupt_after(3 * workers),
            )
        run(plan, tmp_path / name, workers, max_rejects=0.1)
    run(plan, tmp_path / "whole", max_rejects=0.1)
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "whole")
    shards = open_shards(tmp_path / "whole")
    assert shards.manifest.encode == Encoding(quality="fast").describe()
    tar = (tmp_path / "whole" / "toy-000000.tar").read_bytes()
    row = shards.table.to_pylist()[0]
    fields = json.loads(tar[row["json_offset"] :][: row["json_size"]])
    assert fields["encode"] == shards.manifest.encode
    raw = (root / row["path"]).read_bytes()
    assert fields["source"]["sha256"] == hashlib.sha256(raw).hexdigest()
    assert (fields["source"]["width"], fields["source"]["codec"]) == (64, "h264")


@pytest.mark.parametrize(
    "samples", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (6, 11))]
)
def test_an_interruption_leaves_no_trace(
    samples: int, root: Path, reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "toy"
    with pytest.raises(KeyboardInterrupt):
        run(plan_of(root), folder, workers=2, max_rejects=0.1, on_progress=interrupt_after(samples))
    assert not (folder / "manifest.json").exists()
    with pytest.raises(UsageError, match="no finished shard set"):
        open_shards(folder)
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    assert len(finished) == samples // 4
    run(plan_of(root), folder, max_rejects=0.1)
    assert content(folder) == content(reference)
    for path, changed in finished.items():
        assert path.stat().st_mtime_ns == changed  # kept, not made again


def convert_slowly(root: Path, folder: Path) -> None:
    """Body of a process that is going to be killed."""
    run(plan_of(root), folder, max_rejects=0.1, on_progress=lambda progress: time.sleep(0.1))


def test_kill_9(root: Path, reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    for shards in (1, 2):
        # A script in its own right, as `python -m` is; its workers end with it.
        code = (
            "from pathlib import Path\n"
            "from tests.unit.shard.test_convert import convert_slowly\n"
            f"convert_slowly(Path({str(root)!r}), Path({str(folder)!r}))\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
        while len(list(folder.glob("*.tar"))) < shards and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert not (folder / "manifest.json").exists()
    run(plan_of(root), folder, max_rejects=0.1)
    assert content(folder) == content(reference)


def test_a_finished_shard_that_was_damaged_is_made_again(
    root: Path, reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "toy"
    with pytest.raises(KeyboardInterrupt):
        run(plan_of(root), folder, max_rejects=0.1, on_progress=interrupt_after(9))
    with (folder / "toy-000001.tar").open("r+b") as stream:
        stream.seek(700)
        stream.write(b"damage")
    (folder / "toy-000002.tar.tmp").write_bytes(b"left by a crash")
    with (folder / JOURNAL_NAME).open("ab") as journal:
        journal.write(b'["toy-000002.tar", 4')  # cut by a crash
    run(plan_of(root), folder, max_rejects=0.1)
    assert content(folder) == content(reference)


def test_too_many_rejects(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SceVideoError, match=r"1 unreadable files are more than 5.0% of 12 \(1 no"):
        run(plan_of(root), tmp_path / "toy")
    assert "class1/v1_6.mp4" in (tmp_path / "toy" / "rejects.csv").read_text()
    assert run(plan_of(root), tmp_path / "toy", max_rejects=0.1).samples == 11


def test_nothing_readable(tmp_path: Path) -> None:
    put(tmp_path, "raw/a/1.mp4", "raw/a/2.mp4")
    with pytest.raises(SceVideoError, match="not one readable sample"):
        run(plan_of(tmp_path / "raw"), tmp_path / "toy", max_rejects=1.0)


def test_a_file_that_changes_meanwhile(tmp_path: Path, clips: Path) -> None:
    root = class_folders(tmp_path / "raw", clips, classes=1, each=2)
    plan = plan_of(root)
    (root / "class0" / "v0_1.mp4").write_bytes(b"other")
    with pytest.raises(SceVideoError, match=r"v0_1\.mp4: changed while it was being sharded"):
        run(plan, tmp_path / "toy")


def test_full_disk(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: TarWriter, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer.TarWriter, "_write", full)
    told = "the disk is full; 0 finished shards are kept, make room and run again"
    with pytest.raises(SceVideoError, match=told):
        run(plan_of(root), tmp_path / "toy")
    assert not list((tmp_path / "toy").glob("*.tar*"))
    monkeypatch.undo()
    assert run(plan_of(root), tmp_path / "toy", max_rejects=0.1).samples == 11


def test_wall_limit_is_far_above_the_cpu_limit() -> None:
    assert plan_of.__defaults__ is not None
    assert Settings("x").limits.cpu_seconds * 2 < converter.WALL_LIMIT
