"""A JPEG file by its segments: whether it is whole, and whether its scans hold just what they must.

libjpeg, as Pillow and torchvision use it, makes up what a scan lacks and passes over what it has
too much, and neither tells. FFmpeg's decoder stops at a code that is in no table. So one of all
ones, which the standard leaves out of every table, is put where a scan must be over: who reads it
has read too far, or has not yet read what was before it.

Markers: ITU-T T.81, table B.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import av
from av.video.codeccontext import VideoCodecContext

from sce_video.video.facts import Rejected
from sce_video.video.limits import DEFAULT_LIMITS

_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_IN_SCAN = re.compile(rb"\xff[\x01-\xfe]")
_RESTARTS, _END, _SCAN, _DRI = range(0xD0, 0xD8), 0xD9, 0xDA, 0xDD
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2  # with Huffman's codes
_FRAME = 13  # bytes of a frame's segment, at least
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_LEFT_OUT = (*range(0xE0, 0xF0), 0xFE)  # of applications, comments: no matter for the codes
_ONES = b"\xff\x00" * 8
_TAILS = (4, 8, 12)
"""Bytes without which no scan is sound, but by chance: without 4 and without 8 of them 5 of four
million were, all of noise, and none without 12, too."""
_MOST = 65_535  # pixels a side


@dataclass
class Jpeg:
    """What :func:`parse_jpeg` found."""

    pieces: list[bytes] = field(default_factory=list)
    """Its segments and the data of its scans, in order: what its codes need."""
    frame: bytes = b""  # its segment
    interval: int = 0  # MCUs between two restarts; 0 = there are none
    scans: dict[int, list[bytes]] = field(default_factory=dict)
    """Number of the piece that is a scan's data -> the same between restarts."""


def parse_jpeg(data: bytes) -> Jpeg:
    """Find a JPEG's segments and scans; what is behind its end does not count.

    Args:
        data: the whole file.

    Raises:
        Rejected: it is cut off, holds something else than segments, or is of a kind that decoders
            do not agree on.
    """
    jpeg, at = Jpeg(), 2
    while found := _MARKER.match(data, at):
        start, marker = found.end() - 2, found[1][0]
        if marker == _END and jpeg.scans:
            return jpeg
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        segment = data[start:at]
        if marker in _FRAMES:
            if marker not in (*_SEQUENTIAL, _PROGRESSIVE) or segment[4:5] != b"\x08":
                raise Rejected("a JPEG of 12 bits, lossless or arithmetic")
            if len(segment) < _FRAME or jpeg.frame:  # decoders take the first or the last
                raise Rejected("damaged image")
            jpeg.frame = segment
        elif marker == _DRI:
            jpeg.interval = int.from_bytes(segment[4:6], "big")
        if marker not in _LEFT_OUT:
            jpeg.pieces.append(segment)
        if marker == _SCAN:
            end, intervals = _scan(data, at)
            jpeg.scans[len(jpeg.pieces)] = intervals
            jpeg.pieces.append(data[at:end])
            at = end
    raise Rejected("damaged image" if at < len(data) else "cut off")


def _scan(data: bytes, start: int) -> tuple[int, list[bytes]]:
    """Where the scan ends whose data start there, and the data between its restarts."""
    intervals, at = list[bytes](), start
    for found in _IN_SCAN.finditer(data, start):
        here, marker = found.start(), data[found.end() - 1]
        if marker not in _RESTARTS:
            return here, [*intervals, data[at:here]]
        if marker - _RESTARTS[0] != len(intervals) % 8:
            raise Rejected("damaged image")
        intervals.append(data[at:here])
        at = found.end()
    raise Rejected("cut off")


def check_scans(jpeg: Jpeg) -> None:
    """Refuse a JPEG whose scans hold less or more than its size asks for, as far as that shows.

    Args:
        jpeg: one whose header Pillow can read.

    Raises:
        Rejected: they do.
    """
    single = len(jpeg.scans) == 1 and jpeg.frame[1] != _PROGRESSIVE
    intervals = _intervals(jpeg) if single else []
    if not (_are_exact(jpeg, intervals) if intervals else _lack_nothing(jpeg)):
        raise Rejected("damaged image")


def _intervals(jpeg: Jpeg) -> list[tuple[bytes, bytes]]:
    """A scan's data between restarts, each behind the segment of a frame of its own size.

    Empty where an interval makes no rectangle.

    Raises:
        Rejected: there are too few or too many.
    """
    frame, [datas] = jpeg.frame, jpeg.scans.values()
    height, width = (int.from_bytes(frame[at : at + 2], "big") for at in (5, 7))
    sampling = frame[11::3] if frame[9] > 1 else b"\x11"
    mcu_width, mcu_height = 8 * max(s >> 4 for s in sampling), 8 * max(s & 15 for s in sampling)
    if not height * width * mcu_width * mcu_height:
        raise Rejected("damaged image")
    columns, rows = -(-width // mcu_width), -(-height // mcu_height)
    if not datas[-1]:  # some encoders write a restart at the end, too
        datas = datas[:-1]
    every = jpeg.interval or columns * rows
    if len(datas) != -(-columns * rows // every):
        raise Rejected("damaged image")
    if len(datas) == 1:
        return [(frame, datas[0])]
    found: list[tuple[bytes, bytes]] = []
    for number, part in enumerate(datas):
        count = min(every, columns * rows - number * every)
        wide, high = (columns, count // columns) if count % columns == 0 else (count, 1)
        if wide * mcu_width > _MOST:
            return []
        size = (high * mcu_height).to_bytes(2, "big") + (wide * mcu_width).to_bytes(2, "big")
        found.append((frame[:5] + size + frame[9:], part))
    return found


def _are_exact(jpeg: Jpeg, intervals: list[tuple[bytes, bytes]]) -> bool:
    """Whether each interval holds its codes, all of them and no more."""
    [number] = jpeg.scans
    *before, scan = jpeg.pieces[:number]
    tables = b"".join(piece for piece in before if piece is not jpeg.frame and piece[1] != _DRI)
    decoder, known = _decoder(), tables
    for frame, data in intervals:
        head, known = known + frame + scan, b""  # the decoder keeps its tables
        if not _decodes(decoder, head + data + _ONES):
            return not _decodes(_decoder(strict=False), tables + frame + scan + data)
        if all(len(data) > n and _decodes(decoder, head + data[:-n] + _ONES) for n in _TAILS):
            return False  # its tail is one too many
    return True


def _lack_nothing(jpeg: Jpeg) -> bool:
    """Whether several scans hold all of their codes; what they have too much is not seen."""
    pieces = list(jpeg.pieces)
    for number, intervals in jpeg.scans.items():
        # The number of the restart before the n-th of them.
        marks = [b"\xff" + bytes([_RESTARTS[(n - 1) % 8]]) for n in range(len(intervals))]
        parts = [mark + interval + _ONES for mark, interval in zip(marks, intervals, strict=True)]
        pieces[number] = b"".join(parts)[2:]  # before the first there is no restart
    whole = b"".join(pieces)
    return _decodes(_decoder(), whole) or not _decodes(_decoder(strict=False), whole)


def _decoder(*, strict: bool = True) -> VideoCodecContext:
    """FFmpeg's, which makes pixels of an eighth of the size; the loose one tells what it knows."""
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {
        "lowres": "3",
        "max_pixels": str(DEFAULT_LIMITS.pixels),
        **({"err_detect": "explode"} if strict else {}),
    }
    decoder.thread_count = 1
    return decoder


def _decodes(decoder: VideoCodecContext, segments: bytes) -> bool:
    try:
        return bool(decoder.decode(av.Packet(b"\xff\xd8" + segments + b"\xff\xd9")))
    except av.FFmpegError:
        return False
