"""Parquet tables: of the right columns with wrong values, of wrong columns, of nothing."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.faults.mutators.dice import PATHS, SIZES, WORDS, Dice, Mutator, one_of
from tests.faults.mutators.generic import damage

_REALS = (0.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e308, 1e-308, 1e-9, 1e9)


def table_values(data: bytes, d: Dice) -> bytes:
    """Values of the columns' own types that no writer writes."""
    table = _read(data)
    for _ in range(d.choice((1, 1, 2, 4))):
        at = d.randrange(table.num_columns)
        field = table.schema.field(at)
        values = table.column(at).to_pylist()
        rows = range(len(values)) if d.random() < 0.2 else [d.randrange(max(len(values), 1))]
        for row in rows if values else ():
            values[row] = _value(field.type, values, d)
        table = table.set_column(at, field, pa.array(values, field.type))
    return _written(table, d)


def table_names(data: bytes, d: Dice) -> bytes:
    """A name, wherever its column has it, that is no plain one."""
    table = _read(data)
    texts = [n for n, field in enumerate(table.schema) if pa.types.is_string(field.type)]
    if not texts or not len(table):
        return damage(data, d)
    at = texts[0] if d.random() < 0.5 else d.choice(texts)
    values = table.column(at).to_pylist()
    old, new = d.choice(values), d.choice(PATHS)
    made = pa.array([new if value == old else value for value in values], pa.string())
    return _written(table.set_column(at, table.schema.field(at), made), d)


def _value(kind: Any, values: list[Any], d: Dice) -> Any:
    if d.random() < 0.04:
        return None
    if d.random() < 0.1:
        return d.choice(values)
    if pa.types.is_integer(kind):
        width, signed = kind.bit_width, pa.types.is_signed_integer(kind)
        number = d.choice((-1, -2, 7, 1000, *SIZES, -(1 << 31), -(1 << 63)))
        low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        return min(max(number, low), high)
    if pa.types.is_floating(kind):
        return d.choice(_REALS)
    words = [word for word in (*WORDS, *PATHS, "mp4", "jpg", "gif") if _is_text(word)]
    return d.choice(words) if pa.types.is_string(kind) else d.choice(values)


def _is_text(word: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in word)


def table_columns(data: bytes, d: Dice) -> bytes:
    """Columns and rows lost, doubled, called otherwise, of other types."""
    table = _read(data)
    at, kind = d.randrange(table.num_columns), d.randrange(9)
    name = table.column_names[at]
    if kind == 0:
        table = table.drop_columns([name])
    elif kind == 1:
        table = table.append_column(d.choice((name, "split9", "x")), table.column(at))
    elif kind == 2:
        words = [word for word in WORDS if _is_text(word)]
        table = table.rename_columns(
            [d.choice(words) if n == name else n for n in table.column_names]
        )
    elif kind == 3:
        kinds = (pa.string(), pa.binary(), pa.list_(pa.string()), pa.null())
        cells = [str(value) for value in table.column(at).to_pylist()]
        chosen = d.choice(kinds)
        made = {pa.list_(pa.string()): [[c] for c in cells], pa.null(): [None] * len(cells)}
        made |= {pa.string(): cells, pa.binary(): [c.encode() for c in cells]}
        table = table.set_column(at, name, pa.array(made[chosen], chosen))
    elif kind == 4:
        table = table.slice(0, 0)
    elif kind == 5:
        table = table.slice(d.randrange(len(table) + 1))
    elif kind == 6:
        table = pa.concat_tables([table, table])
    elif kind == 7:
        table = table.take(list(range(len(table)))[::-1])
    else:
        table = table.select(d.sample(table.column_names, len(table.column_names)))
    return _written(table, d)


def _read(data: bytes) -> Any:
    return pq.read_table(pa.BufferReader(data))


def _written(table: Any, d: Dice) -> bytes:
    data = pa.BufferOutputStream()
    packing = d.choice(("zstd", "zstd", "snappy", "none", "gzip"))
    try:
        pq.write_table(table, data, compression=packing)
    except (pa.ArrowException, ValueError, NotImplementedError):  # two columns of one name
        return b"PAR1"
    found: bytes = data.getvalue().to_pybytes()
    return found


table_file: Mutator = one_of(*[table_values] * 4, table_names, table_columns, table_columns, damage)
