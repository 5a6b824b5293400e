"""Zeros inside packets, where the codec has none.

A hole in a file is a run of zero bytes. Most decoders go on over it and show other pictures. Codecs
with start codes cannot hold one. Arithmetic and Huffman codes hold none this long: the longest of
some 700 sound videos (real ones; black, white, at rest, of a screen, letterboxed, lossless) had 34
bytes in VP8, 9 in the other codecs that are searched for runs.
"""

from __future__ import annotations

from collections.abc import Callable

from sce_video.video.bitstream import length_size
from sce_video.video.whole.verdicts import NOT_ZERO

_FEW, _SOME, _MANY = bytes(8), bytes(24), bytes(64)
_END_OF_IMAGE = b"\xff\xd9"

HasHole = Callable[[bytes], bool]


def hole_finder(codec: str, extradata: bytes) -> HasHole:
    """The function that tells whether a packet of a codec holds a hole.

    Args:
        codec: FFmpeg's name of the codec, not of its decoder. Of what is not known here (raw and
            most intermediate codecs, which do hold zeros) nothing can be said.
        extradata: of the stream.
    """
    if length := length_size(codec, extradata):  # sizes, not start codes
        return lambda packet: _hole_in_nal_units(packet, length, _IS_SLICE[codec])
    if codec in ("h264", "hevc", "mpeg4", "h263", "flv1"):
        return lambda packet: _zeros_inside(packet) or _SOME in packet
    return {
        "mpeg1video": _zeros_inside,  # filled up with zeros where the bit rate is constant
        "mpeg2video": _zeros_inside,
        "vp8": lambda packet: _MANY in packet or packet.startswith(_FEW),
        "vp9": _hole_in_tiles,
        "av1": _hole_in_tiles,
        "mjpeg": _hole_in_jpeg,
        "ffv1": lambda packet: _SOME in packet,
        "msmpeg4v2": lambda packet: _SOME in packet,
        "msmpeg4v3": lambda packet: _SOME in packet,
    }.get(codec, lambda _: False)


_IS_SLICE: dict[str, Callable[[int], bool]] = {
    "h264": lambda first: 1 <= first & 31 <= 5,
    "hevc": lambda first: first >> 1 & 63 < 32,
}
"""Codec -> whether a NAL unit's first byte is that of a slice."""


def _zeros_inside(packet: bytes, start: int = 0, end: int = 1 << 31) -> bool:
    """Whether zeros stand before anything but a start code: escapes make that impossible."""
    at = packet.find(_FEW, start, end)
    while at >= 0:
        found = NOT_ZERO.search(packet, at, end)
        if found is None:
            return False
        if packet[found.start()] != 1:
            return True
        at = packet.find(_FEW, found.end(), end)
    return False


def _hole_in_nal_units(packet: bytes, length: int, is_slice: Callable[[int], bool]) -> bool:
    """The same in units that follow their sizes (of ``length`` bytes).

    Only slices are looked at: some encoders leave the escapes out of messages (SEI).
    """
    if _FEW not in packet:
        return False
    at, before = 0, 1
    while at + length < len(packet):
        size = int.from_bytes(packet[at : at + length], "big")
        at += length
        if not size and not before:  # encoders write an empty unit, not two
            return True
        if size and is_slice(packet[at]):
            end = at + size
            if _zeros_inside(packet, at, end) or packet.find(_SOME, at, end) >= 0:
                return True
        at, before = at + size, size
    return False


def _hole_in_tiles(packet: bytes) -> bool:
    """Of VP9 and AV1: their first byte is never zero, and their last bytes are padded little."""
    return _SOME in packet or packet.endswith(_FEW) or not packet[0]


def _hole_in_jpeg(packet: bytes) -> bool:
    """Zeros between a scan's start and its end, where they are no codes of flat blocks.

    Headers may hold zeros, and what fills up an image of fixed size.
    """
    if _FEW not in packet:
        return False
    if packet.endswith(_FEW) and not packet.rstrip(b"\0").endswith(_END_OF_IMAGE):
        return True
    at = packet.find(_SOME, _scan_start(packet))
    while at >= 0:
        if packet[at - 2 : at] != _END_OF_IMAGE:
            return True
        found = NOT_ZERO.search(packet, at)
        at = packet.find(_SOME, found.start()) if found else -1
    return False


def _scan_start(packet: bytes) -> int:
    """Where a JPEG's first scan begins; its end, where zeros may be codes."""
    at, firsts = 2, dict[int, int]()
    while len(mark := packet[at : at + 2]) == 2 and mark[0] == 0xFF and mark[1] != 0xDA:
        end = min(at + 2 + int.from_bytes(packet[at + 2 : at + 4], "big"), len(packet))
        if mark[1] == 0xC4:  # Huffman tables: class and number, 16 counts, symbols
            table = at + 4
            while table + 17 < end:
                if packet[table] & 0x10:  # of AC coefficients; the first symbol's code is zeros
                    firsts[packet[table]] = packet[table + 17]
                table += 17 + sum(packet[table + 1 : table + 17])
        elif mark[1] == 0xC3:  # a lossless frame, of no blocks
            return len(packet)
        at = end
    if firsts and not any(firsts.values()):  # 0 = the rest of the block is flat
        return len(packet)
    return at
