"""What a run reads: refusals before anything is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from sce_video.config.load import load_config
from sce_video.errors import UsageError
from sce_video.shardset.index import ShardIndex
from sce_video.stream.data import open_data
from sce_video.stream.reader import RemoteIndex
from tests.servers import Server


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


def test_a_training_refuses_a_cache_below_a_window(server: Server, tmp_path: Path) -> None:
    settings = [f"data.shards={server.url}/set", "data.split=null", "train.batch_size=2"]
    settings += [f"data.cache={tmp_path / 'cache'}"]
    index, found = open_data(load_config("demo.yaml", settings), 0, 1)
    assert isinstance(index, RemoteIndex)
    assert (found.samples, found.digest) == (6, index.digest)
    with pytest.raises(
        UsageError, match=r"data.cache_gib: 9.54e-07 GiB hold less than the 16 shards"
    ):
        open_data(load_config("demo.yaml", [*settings, "data.cache_gib=0.00000095367432"]), 0, 1)
    with pytest.raises(UsageError, match=r"^http.*/set: no split 'train'"):
        open_data(load_config("demo.yaml", [*settings, "data.split=train"]), 0, 1)
