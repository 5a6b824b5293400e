"""A set opened by its index: its rows, their splits, and what is no set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sce_video.errors import UsageError, VerificationError
from sce_video.files import sha256_file, write_whole
from sce_video.shardset.index import (
    FIXED_COLUMNS,
    ShardIndex,
    index_table,
    open_shards,
    write_table,
)
from sce_video.shardset.manifest import ShardEntry
from tests.unit.shardset.test_manifest import MANIFEST


def row(number: int, split: str) -> dict[str, Any]:
    texts = ("key", "class", "path", "sha256")
    fields: dict[str, Any] = {name: str(number) if name in texts else 0 for name in FIXED_COLUMNS}
    return {**fields, "shard": f"toy-{number // 2:06d}.tar", "ext": "mp4", "split": split}


def make(folder: Path) -> ShardIndex:
    """A set of five rows, without its tars."""
    splits = ("train", "val", "train", "", "train")
    table = index_table([row(n, split) for n, split in enumerate(splits)], ["split"])
    write_table(folder / "index.parquet", table)
    names = [f"toy-{n:06d}.tar" for n in range(3)]
    shards = tuple(ShardEntry(name=name, samples=2, bytes=0, sha256="") for name in names)
    index_sha256 = sha256_file(folder / "index.parquet")
    manifest = MANIFEST.model_copy(update={"shards": shards, "index_sha256": index_sha256})
    write_whole(folder / "manifest.json", manifest.model_dump_json().encode())
    return open_shards(folder)


def test_rows(tmp_path: Path) -> None:
    found = make(tmp_path)
    assert (len(found), found.images, found.split_columns) == (5, False, ("split",))
    assert found.rows(None).tolist() == [0, 1, 2, 3, 4]
    assert found.rows("train").tolist() == found.rows("split:train").tolist() == [0, 2, 4]
    assert found.shard_numbers().tolist() == [0, 0, 1, 1, 2]


def test_columns(tmp_path: Path) -> None:
    found = make(tmp_path)
    assert found.strings("key") == ["0", "1", "2", "3", "4"]
    np.testing.assert_array_equal(found.numbers("label"), np.zeros(5, np.int32))


def test_what_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no finished shard set .*sce_video.shard DATASET --out"):
        open_shards(tmp_path)
    with pytest.raises(UsageError, match=r"make one: python -m sce_video.shard ucf101$"):
        open_shards("shards/ucf101")
    make(tmp_path)
    (tmp_path / "index.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(VerificationError, match="missing or not the one its manifest names"):
        open_shards(tmp_path)
