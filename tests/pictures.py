"""PNG files of every kind written sample by sample, and damage to files."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of PNG's colour types: grey, RGB, palette, grey with alpha, RGB with alpha."""
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits a sample that each of them may have."""

_WHOLE = ((0, 0, 1, 1),)
_PASSES = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)
"""Of an interlaced one: row and column where it starts, and its steps."""

Chunk = tuple[bytes, bytes]


def write_png(
    samples: NDArray[np.int64],
    kind: int,
    depth: int,
    *,
    interlaced: bool = False,
    before: Sequence[Chunk] = (),
    behind: Sequence[Chunk] = (),
) -> bytes:
    """A PNG of ``samples`` ``[H,W,C]``, with other chunks before and behind the pixels."""
    height, width, _ = samples.shape
    passes = _PASSES if interlaced else _WHOLE
    parts = [samples[y::down, x::right] for y, x, down, right in passes]
    pixels = b"".join(_lines(part, depth) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, int(interlaced))
    body = (b"IDAT", zlib.compress(pixels))
    chunks = [(b"IHDR", header), *before, body, *behind, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _lines(samples: NDArray[np.int64], depth: int) -> bytes:
    """Without a filter, from the highest bit on, each line from a byte on."""
    rows = samples.reshape(len(samples), -1)
    bits = (rows[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    packed = np.packbits(bits.reshape(len(rows), -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + line.tobytes() for line in packed)


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    """``image`` as a file of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


DAMAGES = ("cut", "zeros", "hole of 4096", "hole of 200", "hole of 20", "cut out", "noise", "flip")


def damage(data: bytes, kind: str, start: int, rng: np.random.Generator) -> bytes:
    """``data`` with a damage of :data:`DAMAGES` somewhere behind ``start``."""
    at = int(rng.integers(start, len(data) - 2))
    if kind == "cut":
        return data[:at]
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]
    if kind == "cut out":
        return data[:at] + data[at + 200 :]
    size = {"zeros": len(data), "noise": 200}.get(kind) or int(kind.rpartition(" ")[2])
    size = min(size, len(data) - at)
    return data[:at] + (rng.bytes(size) if kind == "noise" else bytes(size)) + data[at + size :]
