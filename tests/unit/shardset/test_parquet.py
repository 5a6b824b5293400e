"""Parquet files whose sums are right and whose insides are not."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sce_video.shardset.parquet import ParquetError, read_parquet

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.string())])


def written(numbers: pa.Array, texts: pa.Array, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"number": numbers, "text": texts})
    pq.write_table(table, sink, compression="zstd", store_schema=False, **options)
    return bytes(sink.getvalue().to_pybytes())


def test_a_table_comes_back() -> None:
    numbers, texts = (
        pa.array(range(70_000)),
        pa.array([f"{n % 50_000:x}" * 5 for n in range(70_000)]),
    )
    data = written(numbers, texts, row_group_size=10_000, dictionary_pagesize_limit=2_000)
    found = read_parquet(data, SCHEMA, 70_000)
    assert found.equals(pa.table([numbers, texts], schema=SCHEMA))
    assert read_parquet(data, SCHEMA).num_rows == 70_000
    with pytest.raises(ParquetError, match=r"^70,000 rows, not 69,999$"):
        read_parquet(data, SCHEMA, 69_999)
    with pytest.raises(ParquetError, match=r"^other columns$"):
        read_parquet(data, pa.schema([("number", pa.int64())]))


@pytest.mark.parametrize("many", [True, False])
def test_text_that_a_dictionary_repeats_is_counted_before_it_is_written_out(many: bool) -> None:
    """60 GB of a few kilobytes; and 130 MB."""
    rows = 60_000
    texts = pa.array(["y" * (1 << 20 if many else 2_200), "x"])
    places = pa.array(np.zeros(rows, np.int32))
    data = written(pa.array([0] * rows), pa.DictionaryArray.from_arrays(places, texts))
    assert len(data) < 20_000
    with pytest.raises(ParquetError, match="more text than 1,024 bytes a row, in column text"):
        read_parquet(data, SCHEMA, rows)


def test_one_long_text_among_many_short_ones_is_read() -> None:
    rows = 60_000
    texts = pa.array(["y" * 100_000, "x"])
    places = pa.array(np.arange(rows, 0, -1).clip(0, 1).astype(np.int32))
    data = written(pa.array([0] * rows), pa.DictionaryArray.from_arrays(places, texts))
    assert read_parquet(data, SCHEMA, rows).column("text").unique().to_pylist() == ["x"]


def test_rows_and_groups_that_a_file_of_its_size_does_not_hold() -> None:
    zeros = pa.array(np.zeros(300_000, np.int64))
    with pytest.raises(ParquetError, match=r"300,000 rows in 1 groups of \d,\d{3} bytes"):
        read_parquet(written(zeros, zeros.cast(pa.string())), SCHEMA)
    few = zeros[:1100]
    with pytest.raises(ParquetError, match="1,100 rows in 1,100 groups"):
        read_parquet(written(few, few.cast(pa.string()), row_group_size=1), SCHEMA)


def test_places_that_are_empty_and_text_that_is_none() -> None:
    with pytest.raises(ParquetError, match="column text has empty places"):
        read_parquet(written(pa.array([1, 2]), pa.array(["a", None])), SCHEMA)
    wrong = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    with pytest.raises(ParquetError, match=r"^no parquet file: .*Invalid UTF8"):
        read_parquet(written(pa.array([1]), wrong), SCHEMA)


def test_bytes_that_were_changed_are_told_in_one_line() -> None:
    data = written(pa.array(range(50)), pa.array([f"{n}" for n in range(50)]))
    draw, told = random.Random(0), Counter[str]()  # noqa: S311
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(draw.choice((1, 8))):
            changed[draw.randrange(len(data))] = draw.randrange(256)
        if draw.random() < 0.2:
            del changed[draw.randrange(len(data)) :]
        try:
            read_parquet(bytes(changed), SCHEMA, 50)
        except ParquetError as error:
            told[str(error)] += 1
    assert all(len(message.splitlines()) == 1 for message in told)
    assert told.total() > 200
