"""The bytes of a FAISS index of ours, looked through before FAISS reads them.

FAISS's reader is C++ that believes what a file says, and opens others that it names. Here every
size is held against the file, and nothing but the two kinds that we write is let through; layouts
as in FAISS's ``impl/index_write.cpp``.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

import numpy as np

from sce_video.files import open_plain

_AT_ONCE = 1 << 22  # numbers that are looked at
_MOST = 1 << 20  # width of a vector, number of lists
_INNER_PRODUCT = 0


class LayoutError(ValueError):
    """Why a file is no index of ours, in a few words."""


def read_layout(path: Path) -> tuple[str, int, int]:
    """What a file holds: ``flat`` or ``ivf``, how many vectors, and their width.

    Raises:
        LayoutError: something else than whole, finite vectors of an index that we write.
        OSError: it is no file, or cannot be read.
    """
    with os.fdopen(open_plain(path), "rb") as stream:
        try:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise LayoutError("it is empty") from error
    with data:
        try:
            return _Cursor(data).index()
        except struct.error as error:
            raise LayoutError("it is cut short") from error


class _Cursor:
    """Reads from the start on; nothing that is read is kept."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def index(self) -> tuple[str, int, int]:
        """Of the whole file."""
        kind = self._word()
        if kind not in (b"IxFI", b"IwFl"):
            raise LayoutError("neither a flat nor an ivf one")
        count, width = self._flat() if kind == b"IxFI" else self._lists()
        if self._at != len(self._data):
            raise LayoutError("more follows than it says")
        return "flat" if kind == b"IxFI" else "ivf", count, width

    def _take(self, layout: str) -> tuple[int, ...]:
        numbers: tuple[int, ...] = struct.unpack_from(f"<{layout}", self._data, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return numbers

    def _word(self) -> bytes:
        word = bytes(self._data[self._at : self._at + 4])
        self._at += 4
        return word

    def _skip(self, size: int) -> int:
        """Where the next ``size`` bytes begin."""
        start = self._at
        if size > len(self._data) - start:
            raise LayoutError("it is cut short")
        self._at += size
        return start

    def _header(self) -> tuple[int, int]:
        """Number of vectors, and their width, of any index."""
        width, count, _, _, trained, metric = self._take("iqqqBi")
        if not 0 < width <= _MOST or count < 1 or trained != 1 or metric != _INNER_PRODUCT:
            raise LayoutError("its header is none that we write")
        return count, width

    def _flat(self) -> tuple[int, int]:
        count, width = self._header()
        if self._take("Q") != (count * width,):
            raise LayoutError("other numbers than its vectors have")
        self._vectors(count * width)
        return count, width

    def _vectors(self, numbers: int) -> None:
        start = self._skip(4 * numbers)
        for first in range(0, numbers, _AT_ONCE):
            part = min(_AT_ONCE, numbers - first)
            if not np.isfinite(np.frombuffer(self._data, "<f4", part, start + 4 * first)).all():
                raise LayoutError("vectors that are not finite")

    def _lists(self) -> tuple[int, int]:
        count, width = self._header()
        lists, probed = self._take("QQ")
        if not 0 < lists <= min(count, _MOST) or not 0 < probed <= lists:
            raise LayoutError("its header is none that we write")
        if self._word() != b"IxFI" or self._flat() != (lists, width):
            raise LayoutError("other centres than lists")
        if self._take("BQ") != (0, 0) or self._word() != b"ilar":
            raise LayoutError("other lists than we write")
        if self._take("QQ") != (lists, 4 * width) or self._word() != b"full":
            raise LayoutError("other lists than we write")
        if self._take("Q") != (lists,):
            raise LayoutError("other lists than it says")
        sizes = np.frombuffer(self._data, "<u8", lists, self._skip(8 * lists)).tolist()
        if sum(sizes) != count:
            raise LayoutError("lists of other vectors than it says")
        seen = np.zeros(count, bool)
        for size in sizes:
            self._vectors(size * width)
            numbers = np.frombuffer(self._data, "<i8", size, self._skip(8 * size)).copy()
            if size and (numbers.min() < 0 or numbers.max() >= count):
                raise LayoutError("vectors of numbers that it does not have")
            seen[numbers] = True
        if not seen.all():
            raise LayoutError("vectors of one number")
        return count, width
