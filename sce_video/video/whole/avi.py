"""AVI: chunks in lists (RIFF), with an index behind the packets."""

from __future__ import annotations

import numpy as np

from sce_video.video.whole.verdicts import cut_off, damaged

MAGIC = b"RIFF"
_LISTS = (b"movi", b"rec ")
_HEAD = 8  # bytes of a chunk's head: its name and its size
_UNKNOWN = 0xFFFFFFFF  # size of a list that went into a pipe
_ENTRY = 16  # bytes of an entry of the index


def walk(data: bytes) -> None:
    """Go from chunk to chunk, into the lists that hold packets.

    Chunks of unknown names end it: FFmpeg looks for the next one that it knows, and players do.

    Raises:
        Rejected: a chunk claims more than there is, or zeros stand where one should begin.
    """
    at = 0
    while data.startswith(MAGIC, at):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = len(data) if size == _UNKNOWN else at + _HEAD + size
        indexed = 0
        if data.startswith(b"AVI", at + 8):  # not the sectors of a Video CD
            indexed = _walk_chunks(data, at + 12, min(end, len(data)))
        # Some writers count the head of the whole, too, or what they never wrote.
        if end > len(data) != indexed:
            raise cut_off()
        at = end


def _walk_chunks(data: bytes, at: int, end: int) -> int:
    """Where the index ends, behind which there are no packets; 0 = there is none."""
    while at + _HEAD <= end:
        kind = data[at : at + 4]
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        form = data[at + 8 : at + 12] if kind == b"LIST" else b"none"
        # A name ends in zeros, and the size is 0.
        if len(data[at : at + _HEAD].rstrip(b"\0")) < 4 or 0 in form:
            raise damaged(data, at + 12)
        if form in _LISTS:
            at += 12
            continue
        if not kind.strip().isalnum():
            break
        if kind == b"idx1":
            if _has_hole(data[at + _HEAD : at + _HEAD + size]):
                raise damaged(data, at + _HEAD + size - _ENTRY)
            return at + _HEAD + size
        if kind[:2].isdigit() and at + _HEAD + size > len(data):  # a packet
            raise cut_off()
        at += _HEAD + size + size % 2
    return 0


def _has_hole(index: bytes) -> bool:
    """Whether chunks lie at 0 after others that do not: some count from the first one."""
    offsets = np.frombuffer(index[: len(index) // _ENTRY * _ENTRY], "<u4")[2::4]
    return bool(((offsets[:-1] > 0) & (offsets[1:] == 0)).any())
