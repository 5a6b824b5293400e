"""Splits: columns of the index whose values name lists of samples."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa


def split_counts(table: pa.Table, column: str) -> dict[str, int]:
    """Samples by value of a split column; a sample in no value is not counted."""
    counts = Counter(value for value in table.column(column).to_pylist() if value)
    return dict(sorted(counts.items()))
