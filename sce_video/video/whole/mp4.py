"""MP4 and MOV: boxes lie side by side, and an index names the place of every sample.

Structure after ISO/IEC 14496-12. A file that was cut is told by a box that claims more than there
is. Fragmented files may be cut between two boxes: then only an index of their segments tells.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

from sce_video.video.boxes import Box, boxes
from sce_video.video.whole.verdicts import cut_off, damaged

_INNER = {
    b"moov": b"trak",
    b"trak": b"mdia",
    b"mdia": b"minf",
    b"minf": b"stbl",
    b"moof": b"traf",
}
"""Box -> the one in it that leads on to a track's samples."""
_OF_SAMPLES = (b"moov", b"mdat", b"moof", b"styp", b"sidx")
"""Boxes without which samples lack."""


def walk(data: bytes) -> None:
    """Check the boxes of a file, its sample tables and the index of its segments.

    Raises:
        Rejected: samples or boxes lie behind the file's end, or zeros where a box should begin.
    """
    last, behind, seen = b"", 0, set[bytes]()
    for box in boxes(data, 0, len(data)):
        if box.end > len(data):
            if _is_told(seen) and box.kind not in _OF_SAMPLES:
                return  # no box, but what others append: tags, a camera's notes
            raise cut_off()
        if box.kind in (b"moov", b"moof"):
            _check_inner(data, box)
        elif box.kind == b"sidx" and _segments_end(data, box) > len(data):
            raise cut_off()
        last, behind = box.kind, box.end
        seen.add(last)
    if last == b"moof":  # without its samples
        raise cut_off()
    if behind < len(data) and not _is_told(seen):
        raise damaged(data, behind + 8)


def _is_told(seen: Container[bytes]) -> bool:
    """Whether boxes tell the place of every sample, so that what is behind them is nobody's."""
    return b"mfra" in seen or (b"moov" in seen and b"moof" not in seen)


def _check_inner(data: bytes, box: Box) -> None:
    """Every box that leads to samples, down to the tables of each track."""
    tables, at = {}, box.start
    for inner in boxes(data, box.start, box.end):
        at = inner.end
        if inner.kind == _INNER.get(box.kind):
            _check_inner(data, inner)
        tables[inner.kind] = inner
    # Zeros up to the end of a box close it, in QuickTime.
    if data[at : at + 8] == bytes(8) and data[at : box.end].strip(b"\0"):
        raise damaged(data, at)
    if box.kind == b"stbl":
        _check_samples(data, tables)


def _check_samples(data: bytes, tables: dict[bytes, Box]) -> None:
    """The chunks of a track lie in the file, and are not zeros at its end."""
    wide = b"co64" in tables
    if not wide and b"stco" not in tables:
        return
    offsets = _table(data, tables[b"co64" if wide else b"stco"], ">u8" if wide else ">u4")[:, 0]
    if not offsets.size:
        return
    sizes = np.zeros(len(offsets), np.int64)
    if b"stsz" in tables and b"stsc" in tables:
        sizes = _chunk_sizes(data, tables[b"stsz"], tables[b"stsc"], len(offsets))
    if not offsets[sizes > 0].all():
        raise damaged(data, tables[b"stsz"].start)
    ends = offsets + sizes
    final = int(ends.argmax())
    if ends[final] > len(data):
        raise cut_off()
    if sizes[final] >= 64 and not data[offsets[final] : ends[final]].strip(b"\0"):
        raise damaged(data, int(offsets[final]))


def _table(
    data: bytes, box: Box, form: str = ">u4", columns: int = 1, start: int = 8
) -> NDArray[np.int64]:
    """Entries ``[N,columns]`` of a table, from ``start`` in its box on, behind their number."""
    start += box.start
    count = int.from_bytes(data[start - 4 : start], "big") * columns
    if start + count * np.dtype(form).itemsize > min(box.end, len(data)):
        raise damaged(data, start)
    return np.frombuffer(data, form, count, start).astype(np.int64).reshape(-1, columns)


def _chunk_sizes(data: bytes, stsz: Box, stsc: Box, chunks: int) -> NDArray[np.int64]:
    """Bytes of each chunk; zeros where all samples have one size, which QuickTime gives in other
    units for sound."""
    if any(data[stsz.start + 4 : stsz.start + 8]):
        return np.zeros(chunks, np.int64)
    samples = _table(data, stsz, start=12)[:, 0]
    runs = _table(data, stsc, columns=3)  # first chunk, samples in each, their description
    first = np.append(runs[:, 0] - 1, chunks)
    chunks_each = np.diff(first)
    if first[0] != 0 or (chunks_each < 0).any():
        raise damaged(data, stsc.start)
    bounds = np.append(0, np.cumsum(np.repeat(runs[:, 1], chunks_each)))
    if bounds[-1] < len(samples):
        raise damaged(data, stsc.start)
    places = np.append(0, np.cumsum(samples))
    sizes: NDArray[np.int64] = np.diff(places[np.minimum(bounds, len(samples))])
    return sizes


def _segments_end(data: bytes, box: Box) -> int:
    """Where the last segment ends that a segment index (``sidx``) names."""
    wide = 8 if any(data[box.start : box.start + 1]) else 4
    first = box.start + 12 + wide  # version, id, timescale, earliest time
    offset = int.from_bytes(data[first : first + wide], "big")
    count = int.from_bytes(data[first + wide + 2 : first + wide + 4], "big")
    entries = first + wide + 4
    if entries + 12 * count > box.end:
        raise damaged(data, entries)
    sizes = np.frombuffer(data, ">u4", 3 * count, entries)[::3] & 0x7FFFFFFF
    return box.end + offset + int(sizes.sum(dtype=np.int64))
