"""Damage to any bytes: flips, cuts, blocks that are lost, doubled or moved, lengths that lie."""

from __future__ import annotations

from tests.faults.mutators.dice import SIZES, Dice, Mutator, one_of


def _flip(data: bytes, d: Dice) -> bytes:
    """A few bits, more often near the start."""
    made = bytearray(data)
    for _ in range(d.choice((1, 1, 2, 4, 16, 64)) if made else 0):
        made[_place(made, d)] ^= 1 << d.randrange(8)
    return bytes(made)


def _put(data: bytes, d: Dice) -> bytes:
    """A few bytes, of those that mean much."""
    made = bytearray(data)
    for _ in range(d.choice((1, 2, 4)) if made else 0):
        made[_place(made, d)] = d.choice((0, 1, 9, 10, 13, 27, 34, 45, 46, 47, 127, 128, 255))
    return bytes(made)


def _cut(data: bytes, d: Dice) -> bytes:
    return data[: d.randrange(len(data) + 1)]


def _behead(data: bytes, d: Dice) -> bytes:
    return data[_place(data, d) :]


def _run(data: bytes, d: Dice) -> bytes:
    """A run of one byte, or of noise, over what was there."""
    at, size = _block(data, d)
    run = d.randbytes(size) if d.random() < 0.4 else d.choice((b"\0", b"\xff", b" ")) * size
    return data[:at] + run + data[at + size :]


def _insert(data: bytes, d: Dice) -> bytes:
    at, size = _block(data, d)
    return data[:at] + d.randbytes(size) + data[at:]


def _double(data: bytes, d: Dice) -> bytes:
    at, size = _block(data, d)
    times = d.choice((1, 1, 1, 30))
    return data[: at + size] + data[at : at + size] * times + data[at + size :]


def _remove(data: bytes, d: Dice) -> bytes:
    at, size = _block(data, d)
    return data[:at] + data[at + size :]


def _splice(data: bytes, d: Dice) -> bytes:
    """A block of the file at another place of it."""
    at, size = _block(data, d)
    to = _place(data, d)
    return data[:to] + data[at : at + size] + data[to + size :]


def _length(data: bytes, d: Dice) -> bytes:
    """A huge or odd number in place of 2, 4 or 8 bytes."""
    width = d.choice((2, 4, 4, 8))
    at = _place(data, d) // d.choice((1, width)) * 1
    number = d.choice(SIZES) % (1 << 8 * width)
    return data[:at] + number.to_bytes(width, d.choice(("big", "little"))) + data[at + width :]


def _tail(data: bytes, d: Dice) -> bytes:
    return data + d.choice((bytes(1 << 16), d.randbytes(600), data))


def _nothing(data: bytes, d: Dice) -> bytes:
    return d.choice((b"", b"\0", b"\n", bytes(512), d.randbytes(2_000), b"PK\x03\x04", b"\x1f\x8b"))


def _place(data: bytes | bytearray, d: Dice) -> int:
    """Somewhere, half of the time in the first 256 bytes."""
    end = min(len(data), 256) if d.random() < 0.5 else len(data)
    return d.randrange(max(end, 1))


def _block(data: bytes, d: Dice) -> tuple[int, int]:
    at = _place(data, d)
    return at, min(d.choice((1, 4, 16, 100, 512, 4096)), len(data) - at)


_FREQUENT = (_flip, _flip, _put, _length, _length, _length, _cut, _run, _remove, _splice)
damage: Mutator = one_of(*_FREQUENT, _insert, _double, _behead, _tail, _nothing)
"""Any of these, sometimes."""
