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
    at, size = _element_size(data, 4)
    if size is None:
        return 0
    at += size
    if data[at : at + 4] != _SEGMENT:
        return 0
    at, size = _element_size(data, at + 4)
    return 0 if size is None else at + size


def _element_size(data: bytes, at: int) -> tuple[int, int | None]:
    """Decode the variable-length size at ``at``: where its data begin and the size (None = any)."""
    if at >= len(data) or data[at] == 0:
        return at, None
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big") & ((1 << (7 * length)) - 1)
    unknown = value == (1 << (7 * length)) - 1
    return at + length, None if unknown else value
