"""Matroska and WebM: elements that name themselves and say how long they are (RFC 8794, 9559)."""

from __future__ import annotations

import zlib

from sce_video.video.whole.verdicts import cut_off, damaged

MAGIC = b"\x1a\x45\xdf\xa3"  # the EBML header
_SEGMENT, _CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
_GROUP, _BLOCKS = b"\xa0", (b"\xa1", b"\xa3")
_CRC = b"\xbf\x84"  # the checksum's element and its size; the first one in what it is of


def walk(data: bytes) -> None:
    """Go from element to element, into segments and clusters; check those that have a checksum.

    Raises:
        Rejected: an element claims more than there is, a cluster has another checksum, or
            zeros stand where an element should begin.
    """
    at, end, size = 0, len(data), len(data)
    while at < end:
        length = at + 9 - data[at].bit_length()  # one byte more than there are leading zero bits
        if length > at + 4:
            raise damaged(data, at + 4)
        if length >= size:
            raise cut_off()
        start = length + 9 - data[length].bit_length()
        if start > length + 8:
            raise damaged(data, length)
        unknown = (1 << (7 * (start - length))) - 1
        promised = int.from_bytes(data[length:start], "big") & unknown
        kind = data[at:length]
        nested = kind in (_SEGMENT, _CLUSTER, _GROUP)
        if kind in _BLOCKS and data[start : start + 1] == b"\0":  # of no track
            raise damaged(data, start)
        if promised != unknown:  # as it is in live recordings
            if start + promised > size:
                raise cut_off()
            if kind == _SEGMENT:  # what follows it is no part of it
                end = start + promised
            if kind == _CLUSTER and data.startswith(_CRC, start):
                _check_sum(data, start, start + promised)
        elif not nested:
            raise damaged(data, start)
        at = start if nested else start + promised


def _check_sum(data: bytes, start: int, end: int) -> None:
    body = memoryview(data)[start + 6 : end]
    if zlib.crc32(body) != int.from_bytes(data[start + 2 : start + 6], "little"):
        raise damaged(data, end - 1)
