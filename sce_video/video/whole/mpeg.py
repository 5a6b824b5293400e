"""MPEG program streams: packets side by side, each behind a start code (ISO/IEC 11172-1, 13818-1).

They promise no more than the packet that is at hand; there may be an end code, and mostly is none.
"""

from __future__ import annotations

from sce_video.video.whole.verdicts import NOT_ZERO, cut_off, damaged

MAGIC = b"\0\0\1\xba"
_START = b"\0\0\1"
_PACK, _END = 0xBA, 0xB9
_HOLE = 16  # zero bytes
_SECTOR = 2352  # of a Video CD


def walk(data: bytes) -> None:
    """Go from packet to packet.

    Video CDs fill their sectors with zeros, up to the next start code. Other things between packets
    end it: FFmpeg looks for the next start code.

    Raises:
        Rejected: the last packet claims more than there is, or packets begin in zeros.
    """
    at, ended = 0, False
    while at + 4 <= len(data):
        if not data.startswith(_START, at):
            found = NOT_ZERO.search(data, at)
            if found is None:
                if len(data) - at > _SECTOR and not ended:
                    raise cut_off()
                return
            begin = found.start() - 2
            if begin >= at and data.startswith(_START, begin):
                at = begin
                continue
            if begin - at >= _HOLE:
                raise damaged(data, at)
            return
        head = data[at : at + 14].ljust(14, b"\0")
        if ended := head[3] == _END:
            at += 4
        elif head[3] == _PACK:  # of MPEG-2 or of MPEG-1
            at += 14 + (head[13] & 7) if head[4] >> 6 == 1 else 12
        elif head[3] < _END:
            return
        else:
            at += 6 + int.from_bytes(head[4:6], "big")
    if at > len(data):
        raise cut_off()
