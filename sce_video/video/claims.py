"""How many samples an MP4 claims to have: FFmpeg makes room for them as it opens a file.

A table of samples of one size takes 20 bytes, whatever their number; so does a run of samples in a
fragment, or the number of samples in each chunk of sound, and each edit lists them once more. A
file of some kilobytes can claim what takes gigabytes. So claims are held against the bytes that are
there, before FFmpeg sees them.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from sce_video.video.boxes import Box, boxes
from sce_video.video.errors import DecodeError

_OTHERS = (b"\x1a\x45\xdf\xa3", b"RIFF", b"\0\0\1")  # how other containers begin
_OF_NO_TABLES = (b"mdat", b"free", b"skip")
"""Boxes that FFmpeg does not look into; all else is searched, as tables may lie anywhere in it."""
_WORDS = re.compile(rb"trak|hdlr|cmvd|elst|stts|stsc|stco|co64|stsz|stz2|trun")
_MOST = 1 << 24  # entries of a track; FFmpeg takes some 40 bytes for each
_MOST_SOUND = 1 << 27  # of sound, 12 bytes for each
_MOST_EDITS = 1_000  # of a track
_MOST_IN_BYTE = 64  # samples of sound at a constant rate: 44 if 44.1 kHz take 8 kbit/s
_ENTRY = 160  # of such samples FFmpeg makes one entry of as many at least, or of a chunk
_MOST_HEADER = 1 << 26  # bytes of a compressed header, unpacked
_MOST_BOXES = 64  # in one, of those that are looked into
_TWICE = "its header is compressed more than once"
_MANY = "its header claims more samples than it can hold"


@dataclass
class _Track:
    """What its tables claim."""

    box: tuple[bytes, int, int] = b"", 0, 0  # its header, where it begins there and may end
    samples: int = 0
    in_runs: int = 0  # of these, in fragments
    edits: int = 0  # that show samples
    chunks: int = 0
    runs: int = 0  # of chunks
    in_chunks: int = 0  # samples, by these
    words: Counter[bytes] = field(default_factory=Counter)  # a handler by its media

    @property
    def constant(self) -> bool:
        """Whether FFmpeg makes entries of its chunks, not of each sample.

        It does for sound of which each sample lasts one tick (PCM; QuickTime's old codecs).
        """
        once = self.words[b"stts"] == self.words[b"stsz"] == 1
        others = self.words.keys() & {b"stz2", b"trun"}
        return once and self.sound and not others and _is_plain(*self.box)

    @property
    def sound(self) -> bool:
        """Whether it can be nothing else."""
        return self.words.keys() & {b"soun", b"vide", b"subp", b"clcp"} == {b"soun"}


def check_claims(data: bytes) -> None:
    """Refuse an MP4 or MOV that claims more samples than it can hold.

    Args:
        data: the whole file; of another container nothing is found.

    Raises:
        DecodeError: it does.
    """
    if data.startswith(_OTHERS) and not data[4:8].isalpha():
        return
    in_runs = 0  # of all fragments: FFmpeg keeps them together
    runs = max(len(data), _MOST_HEADER) // 12  # of chunks, if each has a place of its own
    packed = 0
    for track in _tracks(data):
        packed += track.words[b"cmvd"]
        if packed > 1:
            raise DecodeError(_TWICE)
        in_runs += track.in_runs
        runs -= track.runs
        chunks, edits = track.in_chunks // _ENTRY + track.chunks, max(1, track.edits)
        held = max(in_runs, track.in_chunks // _MOST_IN_BYTE) <= len(data) and runs >= 0
        most = _MOST_SOUND if track.sound and edits == 1 else _MOST
        many = track.samples > len(data) or track.samples * edits > most
        if not held or max(chunks * edits, in_runs) > _MOST or (many and not track.constant):
            raise DecodeError(_MANY)
        if track.edits > _MOST_EDITS:
            raise DecodeError("a track of too many edits")


def _tracks(data: bytes) -> Iterator[_Track]:
    """The tracks of every header; what precedes the first one, and fragments, count as one."""
    at = 0
    for box in boxes(data, 0, len(data)):
        if box.kind not in _OF_NO_TABLES:
            yield from _tracks_of(data, box.start, box.end)
        at = box.end
    yield from _tracks_of(data, at, len(data))


def _tracks_of(data: bytes, start: int, end: int, *, inner: bool = False) -> Iterator[_Track]:
    track, runs = _Track(), list[int]()
    while found := _WORDS.search(data, start, end):
        start = found.start() + 1  # words may overlap: the end of a size, and a name
        kind, at = found[0], found.end()
        if kind == b"trak":
            yield _with_chunks(track, data, runs)
            track, runs = _Track((data, at, end)), []
        elif kind == b"cmvd":  # a header that QuickTime compressed, behind its length
            if inner or track.words[kind]:
                raise DecodeError(_TWICE)
            header = _unpacked(memoryview(data)[at + 4 : end])
            yield from _tracks_of(header, 0, len(header), inner=True)
        elif kind == b"elst":
            track.edits += _edits(data, at)
        elif kind == b"stsc":
            runs.append(at)
        elif kind in (b"stco", b"co64"):
            track.chunks += _number(data, at + 4)
        elif kind in (b"stsz", b"stz2", b"trun"):
            count = _number(data, at + (4 if kind == b"trun" else 8))
            track.samples += count
            track.in_runs += count * (kind == b"trun")
        track.words[data[at + 8 : at + 12] if kind == b"hdlr" else kind] += 1
    yield _with_chunks(track, data, runs)


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _with_chunks(track: _Track, data: bytes, runs: list[int]) -> _Track:
    """Adds samples by the tables of chunks that begin at ``runs``: version, count, entries."""
    counts = [min(_number(data, at + 4), max(0, len(data) - at - 8) // 12) for at in runs]
    track.runs = sum(counts)
    if track.runs > min(_MOST, len(data) // 12):
        raise DecodeError(_MANY)
    for at, count in zip(runs, counts, strict=True):
        table = np.frombuffer(data, ">u4", 3 * count, at + 8 if count else 0).reshape(-1, 3)
        first, each = table[1:, 0].astype(np.int64) - 1, table[:, 1].astype(np.int64)
        if np.any(np.diff(first, prepend=0) <= 0):  # FFmpeg mends it, by any of its entries
            track.in_chunks += int(each.max()) * track.chunks
        elif count:  # the first holds for the first chunk, whatever it says
            ends = np.minimum(np.append(first, track.chunks), track.chunks)
            track.in_chunks += int(np.diff(ends, prepend=0).astype(float) @ each)
    return track


def _is_plain(data: bytes, at: int, end: int) -> bool:
    """Whether the track that begins at ``at`` is sound whose samples all last one tick."""
    media = _only(data, Box(b"trak", at, min(end, at - 8 + _number(data, at - 8))), b"mdia")
    tables = _only(data, _only(data, media, b"minf"), b"stbl")
    handler, times = _only(data, media, b"hdlr"), _only(data, tables, b"stts")
    if handler is None or times is None or _only(data, tables, b"stsz") is None:
        return False
    one_tick = _number(data, times.start + 4) == _number(data, times.start + 12) == 1
    return data[handler.start + 8 : handler.start + 12] == b"soun" and one_tick


def _only(data: bytes, outer: Box | None, kind: bytes) -> Box | None:
    """The box of a kind in another; None = it has none, or several."""
    there = [] if outer is None else islice(boxes(data, outer.start, outer.end), _MOST_BOXES)
    inner = [box for box in there if box.kind == kind]
    return inner[0] if len(inner) == 1 else None


def _edits(data: bytes, at: int) -> int:
    """Entries of an edit list but for empty ones, which wait and show nothing; ``at``: version."""
    count, wide = _number(data, at + 4), 8 if data[at : at + 1] == b"\1" else 4
    if count > _MOST_EDITS:
        return count
    begins = (at + 8 + wide + (2 * wide + 4) * entry for entry in range(count))
    return sum(data[begin : begin + wide] != b"\xff" * wide for begin in begins)


def _unpacked(packed: memoryview) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        header = unpacker.decompress(packed, _MOST_HEADER)
    except zlib.error:
        return b""  # FFmpeg does not open it either
    if unpacker.unconsumed_tail:
        raise DecodeError("its compressed header is too large")
    return header
