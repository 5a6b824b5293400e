"""A packet index that lies, with a right sum."""

from __future__ import annotations

import struct
import zlib

from tests.faults.mutators.dice import SIZES, Dice, Mutator, one_of
from tests.faults.mutators.generic import damage

_HEAD = 58  # bytes before the codec's name


def idx_fields(data: bytes, d: Dice) -> bytes:
    """Single bytes, half of them in the head, and numbers in place of its fields."""
    body = bytearray(data[:-4])
    for _ in range(d.choice((1, 1, 2, 3))):
        end = min(_HEAD, len(body)) if d.random() < 0.5 else len(body)
        if d.random() < 0.5:
            body[d.randrange(4, end)] = d.randrange(256)
        else:
            at = d.randrange(4, end - 4)
            body[at : at + 4] = struct.pack("<I", d.choice(SIZES) % (1 << 32))
    return _sealed(bytes(body))


def idx_blocks(data: bytes, d: Dice) -> bytes:
    """Any damage behind the mark."""
    return _sealed(data[:4] + damage(data[4:-4], d))


def _sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


idx_file: Mutator = one_of(idx_fields, idx_fields, idx_fields, idx_blocks, damage)
