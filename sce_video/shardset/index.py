"""The index of a shard set: a row a sample, and where in which tar its members lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sce_video.errors import UsageError, VerificationError
from sce_video.files import write_whole
from sce_video.shardset.checks import IMAGE_EXTENSIONS, row_problem, shard_numbers
from sce_video.shardset.elsewhere import way_out
from sce_video.shardset.manifest import (
    FORMAT_VERSION,
    LARGEST_INDEX,
    MANIFEST_NAME,
    Manifest,
    read_manifest_file,
    read_part,
)
from sce_video.shardset.parquet import ParquetError, read_parquet
from sce_video.shardset.published import PUBLISHED
from sce_video.shardset.splits import split_rows

INDEX_NAME = "index.parquet"
_HEAD, _ROW = 1 << 20, 1 << 13  # bytes of an index at most: of its own, and of a sample

_FIXED_FIELDS = (
    ("shard", pa.string()),  # tar file name
    ("key", pa.string()),
    ("label", pa.int32()),  # -1 = none
    ("class", pa.string()),  # "" = none
    ("path", pa.string()),  # relative to the raw root, POSIX
    ("ext", pa.string()),  # of the media member, lower case
    ("media_offset", pa.int64()),  # bytes from the start of the tar to the member's data
    ("media_size", pa.int64()),
    ("json_offset", pa.int64()),
    ("json_size", pa.int64()),
    ("json_crc32", pa.uint32()),
    ("idx_offset", pa.int64()),  # -1 = no packet index
    ("idx_size", pa.int64()),
    ("sha256", pa.string()),  # of the media member
    ("duration", pa.float64()),  # seconds; 0 for images
    ("fps", pa.float64()),  # mean frame rate, frames / duration; 0 for images
    ("frames", pa.int32()),  # decoded frames; 1 for images
    ("width", pa.int32()),  # as displayed, after rotation
    ("height", pa.int32()),
)
FIXED_COLUMNS = tuple(name for name, _ in _FIXED_FIELDS)
IndexRow = dict[str, Any]
"""A sample: column -> value."""


def index_schema(split_columns: Sequence[str]) -> pa.Schema:
    """Schema of ``index.parquet``: the fixed columns, then one string column a split."""
    return pa.schema([*_FIXED_FIELDS, *((name, pa.string()) for name in split_columns)])


def index_table(rows: Sequence[IndexRow], split_columns: Sequence[str]) -> pa.Table:
    """Rows (one dict a sample, in shard order) as a table with :func:`index_schema`.

    Args:
        rows: dicts with :data:`FIXED_COLUMNS` and ``split_columns`` as keys.
        split_columns: names of the split columns.
    """
    return pa.Table.from_pylist(list(rows), schema=index_schema(split_columns))


def write_table(path: Path, table: pa.Table, *, shared: bool = False) -> None:
    """Write an index as parquet, as :func:`write_whole`; the bytes depend on its rows only."""
    data = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), data, compression="zstd", write_statistics=False)
    write_whole(path, data.getvalue(), shared=shared)


@dataclass(frozen=True)
class ShardIndex:
    """A shard set opened for reading: its folder, manifest and index table."""

    folder: Path
    manifest: Manifest
    digest: str  # sha256 of manifest.json: what an epoch's order and a checkpoint are keyed by
    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def name(self) -> str:
        """Where the set lies, for messages."""
        return str(self.folder)

    @property
    def split_columns(self) -> tuple[str, ...]:
        """Names of the split columns, in file order."""
        return tuple(self.table.column_names[len(FIXED_COLUMNS) :])

    def numbers(self, column: str) -> NDArray[Any]:
        """One numeric column as a NumPy array ``[len(self)]``."""
        return cast("NDArray[Any]", self.table.column(column).to_numpy())

    def strings(self, column: str) -> list[str]:
        """One string column as a list."""
        return cast("list[str]", self.table.column(column).to_pylist())

    def rows(self, split: str | None, way_out: str = "") -> NDArray[np.int64]:
        """Row numbers of a split, ascending; see :func:`split_rows`."""
        return split_rows(self.table, self.split_columns, split, self.name, way_out)

    @property
    def images(self) -> bool:
        """Whether the set holds images rather than videos."""
        return len(self) > 0 and self.table.column("ext")[0].as_py() in IMAGE_EXTENSIONS

    def shard_numbers(self) -> NDArray[np.int64]:
        """Number of each sample's shard among the names of the manifest's, sorted."""
        return shard_numbers(self.table, self.manifest)


def _command(folder: Path) -> str:
    """The command that makes a shard set in ``folder``."""
    dataset = folder.name if folder.name in PUBLISHED else "DATASET"
    out = "" if folder == Path("shards") / dataset else f" --out {folder}"
    return f"python -m sce_video.shard {dataset}{out}"


def open_shards(folder: str | Path) -> ShardIndex:
    """Open a shard set for reading; the tars themselves are not touched.

    Raises:
        UsageError: no finished shard set there, or one of another format version.
        VerificationError: the manifest or the index is damaged, or says what no reader may believe.
    """
    folder = Path(folder)
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise UsageError(
            f"{folder}: no finished shard set (no {MANIFEST_NAME}); "
            + way_out(folder, _command(folder))
        )
    manifest, data = read_manifest_file(path)
    index = folder / INDEX_NAME
    most = min(_HEAD + _ROW * manifest.samples, LARGEST_INDEX)
    table = read_index(read_part(index, limit=most), manifest, index)
    return ShardIndex(folder, manifest, hashlib.sha256(data).hexdigest(), table)


def read_index(data: bytes, manifest: Manifest, name: str | Path) -> pa.Table:
    """Parse the index that belongs to ``manifest``; ``name`` is what messages call it.

    What it gives holds for every reader; see :func:`row_problem`.

    Raises:
        VerificationError: another file, not an index of this format, or with rows that no converter
            writes.
    """
    if hashlib.sha256(data).hexdigest() != manifest.index_sha256:
        raise VerificationError(f"{name}: missing or not the one its manifest names; shard again")
    schema = index_schema(tuple(manifest.splits))
    try:
        if len(set(schema.names)) < len(schema.names):
            raise ParquetError("a split has the name of a column")
        table = read_parquet(data, schema, manifest.samples)
    except ParquetError as error:
        raise VerificationError(
            f"{name}: not as format {FORMAT_VERSION} is: {error}; shard again"
        ) from error
    del data  # as large as the table
    if (problem := row_problem(table, manifest)) is not None:
        raise VerificationError(f"{name}: {problem}; shard again")
    return table
