"""Find files that were cut off, where the container says how long it should be.

FFmpeg reads an AVI or Matroska file up to wherever it ends and reports no error, so a download
that broke off at a packet's end would pass as a shorter video. MP4 needs no such check: its index
names every frame, and frames past the end fail to decode.
"""

from __future__ import annotations

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_cut(data: bytes) -> bool:
    """Whether an AVI, Matroska or WebM file is shorter than its first bytes promise."""
    if data[:4] == b"RIFF":
        promised = 8 + int.from_bytes(data[4:8], "little")
    elif data[:4] == _EBML:
        promised = _matroska_end(data)
    else:
        return False
    return promised > len(data)


def _matroska_end(data: bytes) -> int:
    """Where the Segment ends; 0 = unknown, as in live recordings."""
    end = 0
    for element in (_EBML, _SEGMENT):
        at = end + len(element)
        if data[end:at] != element or not any(data[at : at + 1]):
            return 0
        # The size takes one byte more than it has leading zero bits; all ones = unknown.
        length = 9 - data[at].bit_length()
        unknown = (1 << (7 * length)) - 1
        size = int.from_bytes(data[at : at + length], "big") & unknown
        if size == unknown:
            return 0
        end = at + length + size
    return end
