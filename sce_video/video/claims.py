"""How many samples an MP4 claims to have: FFmpeg makes room for them as it opens a file.

A table of samples of one size takes 20 bytes, whatever their number; so does a run of samples in a
fragment, and each edit lists a track's samples once more. A file of some kilobytes can claim what
takes gigabytes. So claims are held against the bytes that are there, before FFmpeg sees them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from sce_video.video.boxes import boxes
from sce_video.video.errors import DecodeError

_OTHERS = (b"\x1a\x45\xdf\xa3", b"RIFF", b"\0\0\1")  # how other containers begin
_OF_NO_TABLES = (b"mdat", b"free", b"skip")
"""Boxes that FFmpeg does not look into; all else is searched, as tables may lie anywhere in it."""
_WORDS = re.compile(rb"trak|soun|vide|cmvd|(stsz|stz2|trun|elst)(?=.{4}(.{4})(.{4}|))", re.DOTALL)
_MOST = 1 << 24  # samples of a track; FFmpeg takes some 40 bytes for each
_MOST_EDITS = 1_000  # of a track
_MOST_SOUND = 1 << 27  # of sound as plain numbers, 12 bytes for each: 46 minutes at 48 kHz
_MOST_HEADER = 1 << 26  # bytes of a compressed header, unpacked


@dataclass
class _Track:
    """What its tables claim."""

    samples: int = 0
    in_runs: int = 0  # of these, in fragments
    edits: int = 0  # that show samples
    media: frozenset[bytes] = frozenset()


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
    for track in _tracks(data):
        in_runs += track.in_runs
        plain_sound = track.media == {b"soun"} and track.edits < 2
        most = _MOST_SOUND if plain_sound else _MOST
        listed = track.samples * max(1, track.edits)
        if max(track.samples, in_runs) > len(data) or listed > most or in_runs > _MOST:
            raise DecodeError("its header claims more samples than it can hold")
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


def _tracks_of(data: bytes, start: int, end: int) -> Iterator[_Track]:
    track = _Track()
    for found in _WORDS.finditer(data, start, end):
        kind = found[1] or found[0]
        if kind == b"trak":
            yield track
            track = _Track()
        elif kind == b"cmvd":  # a header that QuickTime compressed, behind its length
            header = _unpacked(data[found.end() + 4 : end])
            yield from _tracks_of(header, 0, len(header))
        elif kind == b"elst":
            track.edits += _edits(data, found.end())
        elif found[1]:
            count = int.from_bytes(found[2 if kind == b"trun" else 3], "big")
            track.samples += count
            track.in_runs += count * (kind == b"trun")
        else:
            track.media |= {kind}
    yield track


def _edits(data: bytes, at: int) -> int:
    """Entries of an edit list but for empty ones, which wait and show nothing; ``at``: version."""
    count, wide = int.from_bytes(data[at + 4 : at + 8], "big"), 8 if data[at] == 1 else 4
    if count > _MOST_EDITS:
        return count
    begins = (at + 8 + wide + (2 * wide + 4) * entry for entry in range(count))
    return sum(data[begin : begin + wide] != b"\xff" * wide for begin in begins)


def _unpacked(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        header = unpacker.decompress(packed, _MOST_HEADER)
    except zlib.error:
        return b""  # FFmpeg does not open it either
    if unpacker.unconsumed_tail:
        raise DecodeError("its compressed header is too large")
    return header
