"""A set opened by its index: its rows, their splits, and what is no set."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sce_video.errors import UsageError, VerificationError
from sce_video.files import sha256_file, write_whole
from sce_video.shardset.index import (
    ShardIndex,
    index_schema,
    index_table,
    open_shards,
    write_table,
)
from sce_video.shardset.manifest import ShardEntry
from tests.unit.shardset.test_manifest import MANIFEST

SHARD_BYTES = 1 << 20


def row(number: int, split: str) -> dict[str, Any]:
    """A row of a set of videos of class ``a``, two to a shard."""
    fields: dict[str, Any] = {"key": f"v_{number}", "label": 0, "class": "a", "ext": "mp4"}
    fields |= {"shard": f"toy-{number // 2:06d}.tar", "path": f"a/{number}.mp4", "json_crc32": 0}
    fields |= {"media_offset": 512, "media_size": 9, "json_offset": 1536, "json_size": 9}
    fields |= {"idx_offset": -1, "idx_size": 0, "sha256": "3" * 64}
    fields |= {"duration": 2.0, "fps": 5.0, "frames": 10, "width": 64, "height": 48}
    return {**fields, "split": split}


def make(
    folder: Path,
    change: Mapping[str, Any] | None = None,
    at: int = 3,
    **manifest: Any,  # its fields that are other ones
) -> ShardIndex:
    """A set of five rows, without its tars; of one some columns may be changed."""
    splits = ("train", "val", "train", "", "train")
    rows = [row(n, split) for n, split in enumerate(splits)]
    rows[at] |= change or {}
    write_table(folder / "index.parquet", index_table(rows, ["split"]))
    return opened(folder, **manifest)


def opened(folder: Path, **manifest: Any) -> ShardIndex:
    """The set whose index lies in ``folder``, with a manifest that names it."""
    shards = tuple(
        ShardEntry(name=f"toy-{n:06d}.tar", samples=2 - n // 2, bytes=SHARD_BYTES, sha256="4" * 64)
        for n in range(3)
    )
    index_sha256 = sha256_file(folder / "index.parquet")
    fields = {"shards": shards, "samples": 5, "index_sha256": index_sha256, **manifest}
    text = MANIFEST.model_copy(update=fields).model_dump_json()
    write_whole(folder / "manifest.json", text.encode())
    return open_shards(folder)


def test_rows(tmp_path: Path) -> None:
    found = make(tmp_path)
    assert (len(found), found.images, found.split_columns) == (5, False, ("split",))
    assert found.rows(None).tolist() == [0, 1, 2, 3, 4]
    assert found.rows("train").tolist() == found.rows("split:train").tolist() == [0, 2, 4]
    assert found.shard_numbers().tolist() == [0, 0, 1, 1, 2]


def test_columns(tmp_path: Path) -> None:
    found = make(tmp_path)
    assert found.strings("key") == [f"v_{n}" for n in range(5)]
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


@pytest.mark.parametrize("name", ["manifest.json", "index.parquet"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_files_that_are_none(name: str, kind: str, tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / name
    path.rename(tmp_path / "other")
    if kind == "link":
        path.symlink_to(tmp_path / "other")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(
        (UsageError, VerificationError), match=rf"{name}: is|no finished shard set \(no manifest"
    ):
        open_shards(tmp_path)


def test_a_link_to_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    made = make(tmp_path / "set")
    (tmp_path / "link").symlink_to("set")
    assert open_shards(tmp_path / "link").digest == made.digest


def test_a_file_that_is_larger_than_any_is_not_read(tmp_path: Path) -> None:
    make(tmp_path)
    os.truncate(tmp_path / "manifest.json", 1 << 40)
    with pytest.raises(VerificationError, match=r"manifest\.json: is larger than 33,554,432 bytes"):
        open_shards(tmp_path)


def test_an_index_is_as_large_as_its_samples_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    os.truncate(tmp_path / "index.parquet", (1 << 20) + 5 * (1 << 13) + 1)
    with pytest.raises(VerificationError, match=r"index\.parquet: is larger than 1,089,536 bytes"):
        open_shards(tmp_path)
    os.truncate(tmp_path / "index.parquet", 1 << 40)  # of holes, whose sum nobody waits for
    monkeypatch.setattr(sys.modules[__name__], "sha256_file", lambda _: "5" * 64)
    with pytest.raises(VerificationError, match=r"t: is larger than 4,294,967,296 bytes; shard"):
        opened(tmp_path, samples=10**12, shards=(_shard(10**12),))


def test_an_index_that_is_no_index_of_the_set(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(VerificationError, match=r"index\.parquet: not as .* is: 5 rows, not 6; sh"):
        opened(tmp_path, samples=6, shards=(*opened(tmp_path).manifest.shards[:2], _shard(2)))
    with pytest.raises(VerificationError, match=r"index\.parquet: not as .*: other columns"):
        opened(tmp_path, splits={"split": {}, "split2": {}})
    with pytest.raises(VerificationError, match="a split has the name of a column"):
        opened(tmp_path, splits={"path": {}})
    with pytest.raises(VerificationError, match=r"2 rows of toy-000000\.tar, which has 1 samples"):
        opened(tmp_path, shards=(_shard(1, 0), _shard(2, 1), _shard(2)))
    table = open_shards_table(tmp_path)
    pq.write_table(table.set_column(1, "key", pa.array(["a", None, "b", "c", "d"])), _at(tmp_path))
    with pytest.raises(VerificationError, match="column key has empty places"):
        opened(tmp_path)


def _at(folder: Path) -> Path:
    return folder / "index.parquet"


def _shard(samples: int, number: int = 2) -> ShardEntry:
    name = f"toy-{number:06d}.tar"
    return ShardEntry(name=name, samples=samples, bytes=SHARD_BYTES, sha256="4" * 64)


def open_shards_table(folder: Path) -> pa.Table:
    return pq.read_table(_at(folder), schema=index_schema(["split"]))
