"""Boxes of MP4 and MOV, side by side (ISO/IEC 14496-12)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Box(NamedTuple):
    """Where one lies in the file."""

    kind: bytes
    start: int  # of its content
    end: int


def boxes(data: bytes, at: int, end: int) -> Iterator[Box]:
    """Boxes side by side, up to what is none; the last may claim more than there is."""
    while at + 8 <= end:
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if not any(kind) or 0 < size < head:
            return
        stop = at + size if size else end
        yield Box(kind, at + head, stop)
        at = stop
