"""``rows.parquet``: what each of several features is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sce_video.errors import VerificationError, first_line
from sce_video.files import read_plain
from sce_video.shardset.index import ShardIndex
from sce_video.shardset.parquet import ParquetError, read_parquet

_SCHEMA = pa.schema(
    [("row", pa.int64())]
    + [(name, pa.string()) for name in ("shard", "key")]
    + [("label", pa.int64())]
    + [(name, pa.string()) for name in ("class", "path")]
)
_HEAD, _ROW_BYTES = 1 << 20, 1 << 14  # of a file at most: of its own, and of a sample


def sample_table(index: ShardIndex, rows: NDArray[np.int64]) -> pa.Table:
    """One line a row of the set's index, in their order, and what it says of each."""
    table = index.table.take(pa.array(rows))
    columns = {name: table.column(name) for name in ("shard", "key", "label", "class", "path")}
    columns["label"] = columns["label"].cast(pa.int64())
    return pa.table({"row": rows, **columns})


def read_sample_table(path: Path, samples: int) -> pa.Table:
    """A file of :func:`sample_table`, whose sha256 was checked.

    Raises:
        VerificationError: it holds another table, or not so many samples.
    """
    try:
        data = read_plain(path, limit=_HEAD + _ROW_BYTES * samples)
        table = read_parquet(data, _SCHEMA, samples)
        rows = table.column("row").to_numpy()
        if rows.min() < 0 or len(np.unique(rows)) != samples:
            raise ParquetError("rows that no set has")
    except (ParquetError, OSError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise VerificationError(f"{path}: no table of samples: {reason}; build again") from error
    return table
