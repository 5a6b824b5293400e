"""JPEG and PNG whose headers lie, with the sums of their chunks made again."""

from __future__ import annotations

import struct
import zlib

from tests.faults.mutators.dice import SIZES, Dice, Mutator, one_of
from tests.faults.mutators.generic import damage

_SIDES = (0, 1, 2, 7, 8192, 8193, 16_384, 30_000, 36_000, 65_535)
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3)  # segments that have the size


def jpeg_segments(data: bytes, d: Dice) -> bytes:
    """Sizes, sampling and lengths of segments; segments lost, doubled, moved."""
    parts = _segments(data)
    at = d.randrange(len(parts))
    frames = [n for n, part in enumerate(parts) if part[1:2] and part[1] in _FRAMES]
    kind = d.randrange(7)
    if kind < 3 and frames:
        part = bytearray(parts[frames[0]])
        if kind < 2:
            part[5:9] = struct.pack(">HH", d.choice(_SIDES), d.choice(_SIDES))
        else:
            part[d.choice((1, 4, 9, *range(10, len(part))))] = d.choice((0, 1, 0x41, 0xFF, 0xC2))
        parts[frames[0]] = bytes(part)
    elif kind == 3:
        size = d.choice(SIZES) % (1 << 16)
        parts[at] = parts[at][:2] + struct.pack(">H", size) + parts[at][4:]
    elif kind == 4:
        parts.pop(at)
    elif kind == 5:
        parts.insert(d.randrange(len(parts)), parts[at])
    else:
        parts[at] = parts[at][:4] + damage(parts[at][4:], d)
    return b"".join(parts)


def _segments(data: bytes) -> list[bytes]:
    """Start, each segment before the pixels, the rest."""
    parts, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        parts.append(data[at:end])
        at = end
    return [*parts, data[at:]]


def png_chunks(data: bytes, d: Dice) -> bytes:
    """Sizes, depths and kinds; chunks lost, doubled, damaged, more of them; sums as they should."""
    chunks = _chunks(data)
    at, kind = d.randrange(len(chunks)), d.randrange(9)
    name, body = chunks[at]
    if kind < 2:
        head = bytearray(chunks[0][1])
        head[:8] = struct.pack(">II", *(d.choice((*_SIDES, 1 << 31, 1 << 20)) for _ in "wh"))
        chunks[0] = chunks[0][0], bytes(head)
    elif kind == 2:
        head = bytearray(chunks[0][1])
        head[d.randrange(8, 13)] = d.choice((0, 1, 2, 3, 4, 6, 7, 16, 255))
        chunks[0] = chunks[0][0], bytes(head)
    elif kind == 3:
        chunks[at] = name, damage(body, d)
    elif kind == 4:
        chunks.pop(at)
    elif kind == 5:
        chunks.insert(d.randrange(1, len(chunks) + 1), chunks[at])
    elif kind == 6:
        long = zlib.compress(bytes(1 << 22), 9)
        chunks.insert(1, d.choice(((b"zTXt", b"a\0\0" + long), (b"iCCP", b"a\0\0" + long))))
    elif kind == 7:
        chunks = [(n, zlib.compress(bytes(1 << 22), 9) if n == b"IDAT" else b) for n, b in chunks]
    else:
        extra = d.choice((b"acTL", b"fcTL", b"fdAT", b"tRNS", b"PLTE", b"eXIf", b"gAMA", b"sRGB"))
        chunks.insert(d.choice((1, len(chunks) - 1)), (extra, d.randbytes(d.choice((0, 4, 26)))))
    return data[:8] + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


jpeg_file: Mutator = one_of(jpeg_segments, jpeg_segments, damage)
png_file: Mutator = one_of(png_chunks, png_chunks, damage)
