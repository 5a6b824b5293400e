"""Batches of clips: the same from any worker; bad samples replaced, errors told."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from sce_video.errors import SceVideoError
from sce_video.shardset.index import ShardIndex
from sce_video.stream.loader import ClipBatch, ClipDataset, load
from sce_video.stream.order import Position
from sce_video.stream.reader import ShardReader
from sce_video.video.packets import IdxError, PacketIndex
from tests.conftest import REPOSITORY
from tests.unit.stream.conftest import SAMPLER


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


def test_the_loader_pins_a_batch(index: ShardIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else copies to a GPU would wait; layout and the rest stay."""
    pinned: list[tuple[int, ...]] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor.stride())
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    batch = ClipDataset(ShardReader(index), SAMPLER).__getitems__([Position(0, 0), Position(0, 1)])
    same = pin_memory(batch)  # type: ignore[no-untyped-call]
    assert isinstance(same, ClipBatch)
    assert pinned == [*(view.stride() for view in batch.views), batch.labels.stride()]
    assert all(map(torch.equal, same.views, batch.views))
    assert (same.names, same.cpu) == (batch.names, batch.cpu)
    assert same.rows is batch.rows


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
    monkeypatch.setattr(
        reader, "media", lambda row: bytes(len(media(row))) if row == 1 else media(row)
    )
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


@pytest.mark.parametrize("workers", [0, 1])
def test_a_lost_shard_is_one_line(index: ShardIndex, tmp_path: Path, workers: int) -> None:
    reader = ShardReader(replace(index, folder=tmp_path))
    dataset = ClipDataset(reader, SAMPLER, substitutes=np.arange(6))
    with pytest.raises(SceVideoError) as caught:
        list(load(dataset, [[Position(0, 0)]], workers=workers))
    path = tmp_path / reader.shard_names[0]
    assert str(caught.value) == f"{path}: No such file or directory; shard again"


@pytest.mark.slow
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
