"""Clips from real shards: right pixels, the same from any worker, bad samples replaced."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from sce_video.config import load_config
from sce_video.config.recipes import RandomResizedCrop
from sce_video.errors import SceVideoError, UsageError
from sce_video.shard.__main__ import main as shard
from sce_video.shardset.index import ShardIndex, open_shards
from sce_video.stream.clips import ClipSpec, ClipTiming, RandomClips
from sce_video.stream.cut import make_clips, temporal_difference
from sce_video.stream.data import open_data
from sce_video.stream.loader import ClipBatch, ClipDataset, load
from sce_video.stream.order import BatchPlan, Position, batch_plan
from sce_video.stream.reader import ShardReader
from sce_video.video.decode import DecodeError, decode_frames
from sce_video.video.packets import IdxError, PacketIndex
from tests.conftest import REPOSITORY
from tests.videos import moving_square, write_video


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    root = tmp_path_factory.mktemp("loader")
    for i in range(6):
        write_video(root / f"raw/c{i % 2}/v{i}.mp4", moving_square(20, seed=i))
    out = root / "shards"
    assert shard(["folder", "--root", str(root / "raw"), "--out", str(out), "--workers", "1"]) == 0
    return open_shards(out)


SAMPLER = RandomClips(((RandomResizedCrop((0.2, 0.766)), 32),) * 2, ClipTiming(4, 0.4), 0.5, seed=0)


def test_frames_by_number_are_those_of_a_full_decode(index: ShardIndex) -> None:
    data = ShardReader(index).media(0)
    everything = np.stack(decode_frames(data, range(20)))
    assert everything.shape == (20, 48, 64, 3)
    picked = decode_frames(data, [3, 4, 11, 19])
    np.testing.assert_array_equal(picked, everything[[3, 4, 11, 19]])
    with pytest.raises(DecodeError, match="ends before frame 20"):
        decode_frames(data, [0, 20])
    with pytest.raises(DecodeError, match="no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"):
        decode_frames(b"<html>not a video</html>" * 50, [0])


def test_clips_are_cut_from_the_right_pixels(index: ShardIndex) -> None:
    data = ShardReader(index).media(1)
    frames = np.stack(decode_frames(data, range(20)))
    numbers = np.array([2, 5, 5, 9])
    plain = ClipSpec(numbers, (8, 10, 32, 32), 32)
    difference = ClipSpec(numbers, (8, 10, 32, 32), 32, difference=True)
    a, b = make_clips(data, [plain, difference])
    crop = frames[:, 8:40, 10:42]
    np.testing.assert_array_equal(a.permute(0, 2, 3, 1), crop[numbers])
    expected = temporal_difference(crop[[2, 5, 5, 8]], crop[[3, 6, 6, 9]])
    np.testing.assert_array_equal(b.permute(0, 2, 3, 1), expected)


def test_clips_do_not_depend_on_the_packet_index(index: ShardIndex) -> None:
    reader = ShardReader(index)
    for row in range(6):
        specs, packets = SAMPLER(reader.video(row), 0, row), reader.packets(row)
        assert packets is not None
        with_index = make_clips(reader.media(row), specs, packets)
        for a, b in zip(with_index, make_clips(reader.media(row), specs), strict=True):
            assert torch.equal(a, b)


def test_a_damaged_packet_index_is_a_bad_sample(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = PacketIndex.from_bytes
    first = ShardReader(index).packets(0)
    assert first is not None

    def damaged(data: bytes) -> PacketIndex:
        if data == first.to_bytes():
            raise IdxError("packet index damaged")
        return sound(data)

    monkeypatch.setattr(PacketIndex, "from_bytes", damaged)
    dataset = ClipDataset(ShardReader(index), SAMPLER, substitutes=np.arange(6))
    batch = dataset.__getitems__([Position(0, 0), Position(0, 1)])
    assert batch.rows.tolist() == [1, 1]
    [(name, reason)] = batch.bad
    assert name == ShardReader(index).name(0)
    assert reason == "packet index damaged"


def batches(index: ShardIndex, workers: int) -> list[ClipBatch]:
    positions = [[Position(0, 2 * i + j) for j in range(2)] for i in range(3)]
    dataset = ClipDataset(ShardReader(index), SAMPLER, substitutes=np.arange(6))
    return list(load(dataset, positions, workers=workers))


def test_batches_do_not_depend_on_workers(index: ShardIndex) -> None:
    here, there = batches(index, 0), batches(index, 2)
    assert len(here) == len(there) == 3
    for a, b in zip(here, there, strict=True):
        assert a.rows.tolist() == b.rows.tolist()
        assert a.views[0].shape == (2, 4, 3, 32, 32)
        for x, y in zip(a.views, b.views, strict=True):
            assert torch.equal(x, y)


def test_a_bad_sample_is_named_and_replaced_or_left_out(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ShardReader(index)
    media = reader.media
    monkeypatch.setattr(reader, "media", lambda row: b"x" * 100 if row == 1 else media(row))
    positions = [Position(0, 0), Position(0, 1)]
    batch = ClipDataset(reader, SAMPLER, substitutes=np.arange(6)).__getitems__(positions)
    assert batch.rows.tolist() == [0, 2]
    (name, reason), *others = batch.bad
    assert not others
    assert name == reader.name(1)
    assert "does not decode" in reason
    kept = ClipDataset(reader, SAMPLER).__getitems__(positions)
    assert kept.rows.tolist() == [0]
    assert len(kept.views[0]) == 1


def test_a_set_of_bad_samples_alone_ends_the_run(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ShardReader(index)
    monkeypatch.setattr(reader, "media", lambda row: b"x" * 100)
    monkeypatch.setattr(reader, "packets", lambda row: None)
    dataset = ClipDataset(reader, SAMPLER, substitutes=np.arange(6))
    with pytest.raises(SceVideoError, match=r"no sample can be read; the last: .*no readable MP4"):
        dataset.__getitems__([Position(0, 3)])


def test_a_short_shard_names_itself(index: ShardIndex, tmp_path: Path) -> None:
    copy = ShardReader(index)
    copy.folder = tmp_path
    (tmp_path / copy.shard_names[0]).write_bytes(b"short")
    with pytest.raises(Exception, match=r"shorter than its index says; shard again"):
        copy.media(5)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_lost_shard_is_one_line(index: ShardIndex, tmp_path: Path, workers: int) -> None:
    reader = ShardReader(index)
    reader.folder = tmp_path
    dataset = ClipDataset(reader, SAMPLER, substitutes=np.arange(6))
    with pytest.raises(SceVideoError) as caught:
        list(load(dataset, [[Position(0, 0)]], workers=workers))
    path = tmp_path / reader.shard_names[0]
    assert str(caught.value) == f"{path}: No such file or directory; shard again"


def test_an_error_in_a_worker_ends_the_process(index: ShardIndex, tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from sce_video.shardset.index import open_shards\n"
        "from sce_video.stream.loader import ClipDataset, load\n"
        "from sce_video.stream.order import Position\n"
        "from sce_video.stream.reader import ShardReader\n"
        "from sce_video.stream.clips import UniformClips\n"
        "if __name__ == '__main__':\n"
        f"    reader = ShardReader(open_shards({str(index.folder)!r}))\n"
        "    dataset = ClipDataset(reader, UniformClips(0, 1, 4, 1.0, 32))  # no view: a bug\n"
        "    list(load(dataset, [[Position(0, 0)]] * 4, workers=2))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 1
    assert "need at least one array" in done.stderr


def test_short_videos_may_be_left_out_and_grids_need_layered_shards(
    index: ShardIndex, tmp_path: Path
) -> None:
    def plan(*overrides: str) -> BatchPlan:
        given = [f"data.shards={index.folder}", "data.split=null", "train.batch_size=2"]
        config = load_config("demo.yaml", [*given, *overrides])
        return batch_plan(config, index, 0, 1)

    assert len(plan("clip.seconds=1").rows) == 6  # videos of 0.8 s repeat frames
    with pytest.raises(UsageError, match=r"all videos are shorter than clip\.seconds=1"):
        plan("clip.seconds=1", "data.on_short=drop")
    with pytest.raises(UsageError, match=r"clip\.grid=8 needs shards made with --encode layered"):
        plan("clip.frames=8", "clip.seconds=2.56", "clip.grid=8")


def test_a_run_with_labels_wants_them_all(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["data.split=null", "train.batch_size=2", "clip.seconds=0.6"]
    config = load_config("linear/k400_r3d_18.yaml", [f"data.shards={index.folder}", *settings])
    found, plan = open_data(config, 0, 1)
    assert (plan.samples, plan.classes) == (6, 2)
    assert found is not None
    column = found.table.schema.get_field_index("label")
    labels = pa.array([0, 1, -1, 0, -1, 1], pa.int32())
    table = found.table.set_column(column, found.table.schema.field(column), labels)
    other = replace(found, table=table)
    monkeypatch.setattr("sce_video.stream.data.open_set", lambda *_: other)
    key = other.strings("key")[2]
    with pytest.raises(UsageError, match=f"2 of 6 samples have no label, such as {key}; give a"):
        open_data(config, 0, 1)
    unlabelled = [f"data.shards={index.folder}", "data.split=null", "train.batch_size=2"]
    assert open_data(load_config("demo.yaml", unlabelled), 0, 1)[1].samples == 6
