"""Tars whose headers lie, with their sums made again."""

from __future__ import annotations

import gzip
import io
import tarfile

from tests.faults.mutators.dice import PATHS, SIZES, WORDS, Dice, Mutator, one_of
from tests.faults.mutators.generic import damage

_BLOCK = 512
_FIELDS = {
    "mode": (100, 8),
    "uid": (108, 8),
    "mtime": (136, 12),
    "magic": (257, 8),
    "prefix": (345, 155),
}
_FIELDS |= {"linkname": (157, 100), "devmajor": (329, 8), "checksum": (148, 8)}
_TYPES = b"01234567xgLKSDMNVAZ\0\xff "
_KEYS = (
    *("path", "size", "linkpath", "hdrcharset", "mtime", "uid", "GNU.sparse.map"),
    *("GNU.sparse.size", "GNU.sparse.realsize", "GNU.sparse.major", "GNU.sparse.numblocks"),
)
_GAPS = b"".join(b"%011o\0" % n for n in (0, 1, 1 << 20, 1 << 30, 7 << 30, 1 << 30, 1 << 32, 8))
"""Of a sparse file: where its pieces lie, which is far apart."""


def tar_headers(data: bytes, d: Dice) -> bytes:
    """Members with odd headers, more of them, fewer, in another order."""
    parts = _parts(data)
    if not parts:
        return damage(data, d)
    for _ in range(d.choice((1, 1, 2, 4))):
        at = d.randrange(len(parts))
        kind = d.randrange(10)
        if kind == 0 and len(parts) > 1:
            parts.pop(at)
        elif kind == 1:
            parts.insert(d.randrange(len(parts) + 1), parts[at])
        elif kind == 2:
            parts.insert(at, _extension(d))
        else:
            parts[at] = _lying(parts[at], d)
    end = d.choice((bytes(1024), bytes(1024), bytes(1024), b"", bytes(512), d.randbytes(512)))
    made = b"".join(parts) + end
    return gzip.compress(made + bytes(1 << 24), 1, mtime=0) if d.random() < 0.03 else made


def _parts(data: bytes) -> list[bytes]:
    """Header and padded content of each member."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        places = [(m.offset, m.offset_data + -(-m.size // _BLOCK) * _BLOCK) for m in tar]
    return [data[start:end] for start, end in places]


def _lying(part: bytes, d: Dice) -> bytes:
    header = bytearray(part[:_BLOCK])
    kind = d.randrange(5)
    if kind == 0:
        header[124:136] = _size(d)
    elif kind == 1:
        header[156] = d.choice(_TYPES)
        if header[156] == ord("S"):
            header[386:482] = _GAPS
            header[482] = d.choice((0, 1))
            header[483:495] = _size(d)
    elif kind == 2:
        name = d.choice((*PATHS, *WORDS, "a.b.c.d", ".mp4", "a.", "a" * 99, "a.mp4", "a.json"))
        header[:100] = name.encode("utf-8", "surrogatepass")[:100].ljust(100, b"\0")
    elif kind == 3:
        at, width = _FIELDS[d.choice(sorted(_FIELDS))]
        filling = (b"\xff", b"\0", b" ", b"9", b"7", b"\x80")
        header[at : at + width] = d.choice((d.choice(filling) * width, d.randbytes(width)))
    else:
        header[:] = damage(bytes(header), d)[:_BLOCK].ljust(_BLOCK, b"\0")
    return (bytes(header) if d.random() < 0.05 else sealed(bytes(header))) + part[_BLOCK:]


def sealed(header: bytes) -> bytes:
    """A header with its checksum made again."""
    total = sum(header[:148]) + 8 * 32 + sum(header[156:_BLOCK])
    return header[:148] + b"%06o\0 " % total + header[156:]


def _size(d: Dice) -> bytes:
    """A size in octal, or in base 256, where it may be huge or negative."""
    number = d.choice(SIZES)
    if d.random() < 0.5:
        start = d.choice((b"\x80", b"\x80", b"\xff"))
        return start + (number if start == b"\x80" else (1 << 88) - 1 - number).to_bytes(11, "big")
    return d.choice((b"%011o\0" % min(number, 8**11 - 1), b"-0000000001\0", b"not octal!!\0"))


def _extension(d: Dice) -> bytes:
    """A header for the next one: a long name, a pax header, a sparse map."""
    kind = d.choice(b"xgLKS")
    records = b""
    for _ in range(d.choice((1, 2, 3))):
        value = str(d.choice((*SIZES, *PATHS, *WORDS, "-1", "0,1,2", "1.0")))
        pair = f" {d.choice(_KEYS)}={value}\n".encode("utf-8", "surrogatepass")
        length = len(pair) + len(str(len(pair)))
        length = length if d.random() < 0.8 else d.choice(SIZES)
        records += str(length).encode() + pair
    name = d.choice((*PATHS, *WORDS)).encode("utf-8", "surrogatepass")
    body = records if kind in b"xg" else name
    info = tarfile.TarInfo("././@LongLink")
    info.size, info.type = len(body), bytes([kind])
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:_BLOCK])
    if d.random() < 0.3:
        header[124:136] = _size(d)
    return sealed(bytes(header)) + body + bytes(-len(body) % _BLOCK)


def bomb(data: bytes, d: Dice) -> bytes:
    """A small file that unpacks to a large one."""
    inner = data + bytes(d.choice((1 << 20, 1 << 26)))
    return gzip.compress(inner, d.choice((1, 9)), mtime=0)


def zipped_tar(data: bytes, d: Dice) -> bytes:
    """A ``tar.gz``: damaged itself, or of a tar whose headers lie."""
    if d.random() < 0.3:
        return damage(data, d)
    return gzip.compress(packed_tar(gzip.decompress(data), d), 1, mtime=0)


tar_file: Mutator = one_of(*[tar_headers] * 5, *[damage] * 2)
packed_tar: Mutator = one_of(*[tar_headers] * 3, damage, bomb)
