"""Splits: columns of the index whose values name lists of samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sce_video.errors import UsageError


def split_counts(table: pa.Table, columns: Sequence[str]) -> dict[str, dict[str, int]]:
    """Split column -> samples by value; a sample in no value is not counted.

    Args:
        table: the index.
        columns: its split columns.
    """
    values = {column: Counter(table.column(column).to_pylist()) for column in columns}
    return {c: {value: n for value, n in sorted(own.items()) if value} for c, own in values.items()}


def split_rows(
    table: pa.Table, columns: Sequence[str], split: str | None, name: str, way_out: str = ""
) -> NDArray[np.int64]:
    """Row numbers of a split, ascending.

    Args:
        table: the index.
        columns: its split columns.
        split: ``VALUE`` of column ``split``, ``COLUMN:VALUE``, or None for all rows.
        name: what messages call the set.
        way_out: ends the message of an unknown split: what takes all samples where this was asked.

    Raises:
        UsageError: unknown column, or no sample has the value.
    """
    if split is None:
        return np.arange(len(table), dtype=np.int64)
    column, _, value = split.rpartition(":")
    column = column or "split"
    if column in columns:
        found = np.flatnonzero(pc.equal(table.column(column), value).to_numpy())
        if len(found):
            return found.astype(np.int64)
    known = split_counts(table, columns)
    has = ", ".join(f"{own}:{value}" for own in known for value in known[own]) or "none"
    end = f"; {way_out}" if way_out else ""
    raise UsageError(f"{name}: no split '{split}'; it has {has}{end}")
