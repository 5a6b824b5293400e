"""The shard format: its only definition. Written down for people in ``shards/README.md``.

A shard set is one folder: ``NAME-000000.tar ...``, ``index.parquet``, ``manifest.json``,
``rejects.csv`` and ``classes.txt``. The manifest is written last: a shard exists only when it is
named there.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from sce_video.errors import UsageError, VerificationError

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
INDEX_NAME = "index.parquet"
REJECTS_NAME = "rejects.csv"
CLASSES_NAME = "classes.txt"
PARTIAL = ".tmp"
"""Suffix of a file that is being written."""

IMAGE_EXTENSIONS = ("jpg", "png")

KEY_PATTERN = re.compile(r"[A-Za-z0-9_-]+")
"""WebDataset cuts a key at its first dot, so keys hold none; the original path is in the json."""

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


class ShardEntry(BaseModel):
    """One tar of a set, as the manifest names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    samples: int
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What a shard set holds. ``splits`` maps a split column to its counts by value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT_VERSION
    dataset: str
    plan_digest: str
    encode: dict[str, str | int | float | bool]
    classes: tuple[str, ...]
    splits: dict[str, dict[str, int]]
    samples: int
    rejected: dict[str, int]
    index_sha256: str
    shards: tuple[ShardEntry, ...]


def listed(rejected: Mapping[str, int]) -> dict[str, int]:
    """Of :attr:`Manifest.rejected` the reasons that take samples from the data set's lists."""
    return {why: n for why, n in rejected.items() if why not in ("unlisted", "replaced")}


def index_schema(split_columns: Sequence[str]) -> pa.Schema:
    """Schema of ``index.parquet``: the fixed columns, then one string column a split."""
    return pa.schema([*_FIXED_FIELDS, *((name, pa.string()) for name in split_columns)])


def index_table(rows: Sequence[dict[str, Any]], split_columns: Sequence[str]) -> pa.Table:
    """Rows (one dict a sample, in shard order) as a table with :func:`index_schema`.

    Args:
        rows: dicts with :data:`FIXED_COLUMNS` and ``split_columns`` as keys.
        split_columns: names of the split columns.
    """
    return pa.Table.from_pylist(list(rows), schema=index_schema(split_columns))


def write_index_table(path: Path, table: pa.Table) -> None:
    """Write an index as parquet, as :func:`write_atomic`; the bytes depend on its rows only."""
    data = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), data, compression="zstd", write_statistics=False)
    write_atomic(path, data.getvalue())


def read_rejects(folder: Path) -> list[tuple[str, str]]:
    """(path, reason) of each line of ``rejects.csv``; nothing where it is not there."""
    path = folder / REJECTS_NAME
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as stream:
        rows = csv.DictReader(stream, restval="")
        return [(row.get("path", ""), row.get("reason", "")) for row in rows]


def write_rejects(folder: Path, rejects: Iterable[tuple[str, str]]) -> None:
    """Write ``rejects.csv`` from (path, reason), in any order."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "reason"))
    table.writerows(sorted(rejects))
    write_atomic(folder / REJECTS_NAME, text.getvalue().encode())


@dataclass(frozen=True)
class ShardIndex:
    """A shard set opened for reading: its folder, manifest and index table."""

    folder: Path
    manifest: Manifest
    digest: str
    """sha256 of manifest.json: what an epoch's order and a checkpoint are keyed by."""
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
        array: NDArray[Any] = self.table.column(column).to_numpy()
        return array

    def strings(self, column: str) -> list[str]:
        """One string column as a list."""
        values: list[str] = self.table.column(column).to_pylist()
        return values

    def rows(self, split: str | None) -> NDArray[np.int64]:
        """Row numbers of a split, ascending.

        Args:
            split: ``VALUE`` of column ``split``, ``COLUMN:VALUE``, or None for all rows.

        Raises:
            UsageError: unknown column, or no sample has the value.
        """
        if split is None:
            return np.arange(len(self), dtype=np.int64)
        column, _, value = split.rpartition(":")
        column = column or "split"
        if column in self.split_columns:
            found = np.flatnonzero(pc.equal(self.table.column(column), value).to_numpy())
            if len(found):
                return found.astype(np.int64)
        known = {name: split_counts(self.table, name) for name in self.split_columns}
        has = ", ".join(f"{name}:{value}" for name in known for value in known[name]) or "none"
        raise UsageError(f"{self.name}: no split '{split}'; it has {has}; no split takes all")

    @property
    def images(self) -> bool:
        """Whether the set holds images rather than videos."""
        return len(self) > 0 and self.table.column("ext")[0].as_py() in IMAGE_EXTENSIONS

    def shard_numbers(self) -> NDArray[np.int64]:
        """Number of each sample's shard among the names of the manifest's, sorted."""
        names = pa.array(sorted(shard.name for shard in self.manifest.shards))
        numbers = pc.index_in(self.table.column("shard"), value_set=names)
        return numbers.to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def split_counts(table: pa.Table, column: str) -> dict[str, int]:
    """Samples by value of a split column; a sample in no value is not counted."""
    counts = Counter(value for value in table.column(column).to_pylist() if value)
    return dict(sorted(counts.items()))


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` under a temporary name in the same folder, fsync, rename."""
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def _command(folder: Path) -> str:
    """The command that makes a shard set in ``folder``."""
    from sce_video.shard.sources import SOURCES

    dataset = folder.name if folder.name in SOURCES else "DATASET"
    out = "" if folder == Path("shards") / dataset else f" --out {folder}"
    return f"python -m sce_video.shard {dataset}{out}"


def open_shards(folder: str | Path) -> ShardIndex:
    """Open a shard set for reading; the tars themselves are not touched.

    Raises:
        UsageError: no finished shard set there, or one of another format version.
        VerificationError: the manifest or the index is damaged.
    """
    folder = Path(folder)
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise UsageError(
            f"{folder}: no finished shard set (no {MANIFEST_NAME}); make one: {_command(folder)}"
        )
    data = path.read_bytes()
    manifest = read_manifest(data, path)
    index = folder / INDEX_NAME
    if not index.is_file() or sha256_file(index) != manifest.index_sha256:
        raise VerificationError(f"{index}: missing or not the one its manifest names; shard again")
    table = read_index(index, manifest, index)
    return ShardIndex(folder, manifest, hashlib.sha256(data).hexdigest(), table)


def read_manifest(data: bytes, name: str | Path) -> Manifest:
    """Parse a manifest; ``name`` is what messages call it.

    Raises:
        UsageError: another format version.
        VerificationError: damaged.
    """
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise VerificationError(f"{name}: damaged: {error.errors()[0]['msg']}") from error
    if manifest.format != FORMAT_VERSION:
        raise UsageError(
            f"{name}: format {manifest.format}, this version reads {FORMAT_VERSION}; shard again"
        )
    return manifest


def read_index(source: Path | pa.BufferReader, manifest: Manifest, name: str | Path) -> pa.Table:
    """Parse the index that belongs to ``manifest``; ``name`` is what messages call it.

    Raises:
        VerificationError: not an index of this format.
    """
    try:
        table = pq.read_table(source)
    except pa.ArrowException as error:
        raise VerificationError(f"{name}: no parquet file; shard again") from error
    same = table.schema.equals(index_schema(tuple(manifest.splits)))
    if not same or any(column.null_count for column in table.columns):
        raise VerificationError(f"{name}: not the columns of format {FORMAT_VERSION}; shard again")
    return table
