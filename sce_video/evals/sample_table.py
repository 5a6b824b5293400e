"""``rows.parquet``: what each of several features is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sce_video.errors import VerificationError, first_line
from sce_video.shardset.index import ShardIndex

_SCHEMA = pa.schema(
    [("row", pa.int64())]
    + [(name, pa.string()) for name in ("shard", "key")]
    + [("label", pa.int64())]
    + [(name, pa.string()) for name in ("class", "path")]
)
_ROW_BYTES = 1 << 14  # of a sample, at most: a path has 4 KiB


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
        with pq.ParquetFile(path) as file:
            about = file.metadata
            groups = [about.row_group(i) for i in range(about.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            if not file.schema_arrow.equals(_SCHEMA) or about.num_rows != samples:
                raise ValueError(f"no table of {samples} samples")
            if size > samples * _ROW_BYTES or sum(g.num_rows for g in groups) != samples:
                raise ValueError("larger than samples are")
            table = file.read()
        table.validate(full=True)  # that texts are UTF-8, too
        rows = table.column("row").to_numpy()
        if any(column.null_count for column in table.columns) or table.num_rows != samples:
            raise ValueError("samples of which something is lacking")
        if rows.min() < 0 or len(np.unique(rows)) != samples:
            raise ValueError("rows that no set has")
    except (pa.ArrowException, ValueError, OSError, RuntimeError, OverflowError) as error:
        reason = first_line(error)
        raise VerificationError(f"{path}: no table of samples: {reason}; build again") from error
    return table
