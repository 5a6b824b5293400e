"""Parquet files that somebody else may have made: read within bounds, column by column.

A page of a few bytes may stand for gigabytes: strings that a dictionary repeats, rows of one value.
What a file says of itself is checked before it is believed.
"""

from __future__ import annotations

from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sce_video.errors import first_line

_FREE_ROWS = 1 << 16
"""Rows that a file has at most whatever its size; for more each takes :data:`_ROW` bytes of it."""
_ROW = 2
_ROW_GROUPS = 1 << 10
_FREE_TEXT = 1 << 26
"""Bytes of text that a file holds at most, and :data:`_TEXT` more for each row."""
_TEXT = 1 << 10
_SHOWN = 200  # characters of Arrow's own words
_ARROWS = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError)
"""What Arrow raises, by what its C++ met."""


class ParquetError(ValueError):
    """Bytes that are no such table; the message is one line and names no file."""


def read_parquet(data: bytes, schema: pa.Schema, rows: int | None = None) -> pa.Table:
    """The table of a parquet file, whole: no nulls, and texts are UTF-8.

    Args:
        data: all bytes of the file.
        schema: columns that it has, and no others.
        rows: how many it has; None = any number.

    Raises:
        ParquetError: it is not so, or the memory does not hold it.
    """
    try:
        return _read(data, schema, rows)
    except ParquetError:
        raise
    except _ARROWS as error:
        raise ParquetError(f"no parquet file: {first_line(error)[:_SHOWN]}") from error
    except MemoryError as error:
        raise ParquetError("more than the memory holds") from error


def _read(data: bytes, schema: pa.Schema, rows: int | None) -> pa.Table:
    buffer = pa.py_buffer(data)
    file = pq.ParquetFile(buffer)
    about = file.metadata
    count, groups = about.num_rows, about.num_row_groups
    if not file.schema_arrow.equals(schema):
        raise ParquetError("other columns")
    if rows is not None and count != rows:
        raise ParquetError(f"{count:,} rows, not {rows:,}")
    if count > max(len(data) // _ROW, _FREE_ROWS) or groups > _ROW_GROUPS:
        raise ParquetError(f"{count:,} rows in {groups:,} groups of {len(data):,} bytes")
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    coded = pq.ParquetFile(buffer, metadata=about, read_dictionary=texts)
    left, columns = _FREE_TEXT + _TEXT * count, {}
    for name in schema.names:
        if name in texts and (left := left - _text_size(coded, name, left)) < 0:
            raise ParquetError(f"more text than {_TEXT:,} bytes a row, in column {name}")
        # One at a time, and what that took given back: each is read by way of copies.
        column = file.read([name], use_threads=False).column(0)
        pa.default_memory_pool().release_unused()
        if column.null_count:
            raise ParquetError(f"column {name} has empty places")
        column.validate(full=True)
        columns[name] = column
    return pa.table(columns, schema=schema)


def _text_size(file: pq.ParquetFile, name: str, most: int) -> int:
    """Bytes of a column of text, at most, found before it is written out.

    Args:
        file: with this column as dictionaries.
        name: of the column.
        most: above which it is to be exact, or to be above.
    """
    about, size = file.metadata, 0
    place = file.schema_arrow.names.index(name)
    for group in range(about.num_row_groups):
        chunk, rows = about.row_group(group).column(place), about.row_group(group).num_rows
        size += max(chunk.total_uncompressed_size, 0)
        if chunk.has_dictionary_page and rows and size <= most:
            # With the first row comes the whole dictionary, and any row may be its longest entry.
            first = next(file.iter_batches(1, row_groups=[group], columns=[name]))
            longest = pc.max(pc.binary_length(first.column(0).dictionary)).as_py() or 0
            if size + rows * longest <= most:
                size += rows * longest
            else:
                size += _written_out(file.read_row_group(group, columns=[name]).column(0))
    return size


def _written_out(column: pa.ChunkedArray) -> int:
    """Bytes of text in a column of dictionaries."""
    sizes = [pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.chunks]
    return sum(cast("int", pc.sum(chunk.cast(pa.int64())).as_py() or 0) for chunk in sizes)
