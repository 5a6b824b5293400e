"""What a packet's own bytes say of it: may decoding start here, does another packet need it?

Containers mark packets as key frames where decoding cannot start cleanly (open GOPs), and say
nothing of who refers to whom. So the first bytes of each coded picture are read instead. What is
not understood counts as needed and as no place to start: that costs time and never a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

NEEDED, GROUP, FREE = 0, 1, 2
"""Layers: later packets need it; only its own group does (strict pyramids); nobody does."""

EMPTY_VOP = 19
"""Bytes; FFmpeg's bound for the MPEG-4 packets that show no picture of their own, of any type."""
_START = b"\0\0\1"
_B_SLICE = 1
_LENGTH_SIZE = {"h264": 4, "hevc": 21}  # place in the extradata that says it
_H264_HEADERS = (7, 8, 13, 15)  # parameter sets
_H264_IGNORED = (6, 9, 10, 11, 12, 14, 20)
"""NAL units without a picture that is decoded: messages, delimiters, filler; other layers."""

_MPEG4_ENCODERS = (b"\xb2XviD", b"\xb2DivX", b"\xb2Lavc", b"\xb2FFmp", b"\xb2ffmp")
"""How user data begin that make FFmpeg decode as that encoder did, bugs included."""


class Role(NamedTuple):
    """What one packet is to others."""

    key: bool
    layer: int
    headers: tuple[bytes, ...] = ()
    """Parameter sets inside the packet; they change how later packets decode."""
    kind: object = None
    """What the stream calls it, as coarse as decoders use it: types of units and pictures."""
    packed: bool = False
    """It holds two pictures, so that others of its stream may hold none of their own (DivX)."""


Reader = Callable[[bytes], Role]


def reader(codec: str, extradata: bytes, *, strict: bool = False) -> Reader | None:
    """The function that reads packets of a codec; None = such videos have no index.

    VP8 and AV1 hide pictures in packets of their own, which no frame tells of; ProRes, DNxHD and
    the like, of single pictures, are rare as raw data. They are decoded from the start.

    Args:
        codec: FFmpeg's name.
        extradata: of the stream.
        strict: H.264 of our own encoder, whose referenced B pictures serve their own group only.
    """
    length = length_size(codec, extradata)
    readers: dict[str, Reader] = {
        "h264": lambda packet: _h264(packet, length, strict),
        "hevc": lambda packet: _hevc(packet, length),
        "mpeg4": _mpeg4,
        "mpeg1video": _mpeg12,
        "mpeg2video": _mpeg12,
        "vp9": _vp9,
        "mjpeg": _mjpeg,
    }
    read = readers.get(codec)
    return None if read is None else partial(_careful, read)


def _careful(read: Reader, packet: bytes) -> Role:
    """What is not understood is needed."""
    try:
        return read(packet)
    except (ValueError, IndexError):
        return Role(False, NEEDED)


def length_size(codec: str, extradata: bytes) -> int:
    """Bytes that the size of a NAL unit takes; 0 = start codes stand there, or it is no such codec.

    Args:
        codec: FFmpeg's name.
        extradata: an ``avcC`` or ``hvcC`` box, or headers after start codes.
    """
    at = _LENGTH_SIZE.get(codec, 0)
    return (extradata[at] & 3) + 1 if at and extradata[:1] == b"\x01" and extradata[at:] else 0


def _nal_units(packet: bytes, length: int) -> list[bytes]:
    """The NAL units of a packet: each after its size of ``length`` bytes, or after start codes.

    Some muxers put several units under one size, with start codes between them, and decoders see
    them all: so what lies under a size is cut at start codes, too; no unit holds one itself.

    Raises:
        ValueError: bytes outside of all units, or a unit that is longer than the packet.
    """
    parts: list[bytes] = []
    at = 0
    while length and at < len(packet):
        end = at + length + int.from_bytes(packet[at : at + length], "big")
        if end > len(packet):
            if not any(packet[at:]):  # some muxers pad with zeros
                break
            raise ValueError("a NAL unit is longer than its packet")
        parts.append(packet[at + length : end])
        at = end
    if not length:
        before, code, packet = packet.partition(_START)
        if before.strip(b"\0") or not code:
            raise ValueError("no start code")
        parts.append(packet)
    units = (unit.rstrip(b"\0") for part in parts for unit in part.split(_START))
    return [unit for unit in units if unit]


def _h264(packet: bytes, length: int, strict: bool) -> Role:
    key, layer, kinds, headers = False, FREE, set(), []
    for unit in _nal_units(packet, length):
        kind = unit[0] & 31
        if kind in _H264_HEADERS:
            headers.append(unit)
        elif kind not in _H264_IGNORED:
            slice_type = _slice_type(unit[1:9])
            kinds.add((unit[0], slice_type))
            key |= kind == 5
            if unit[0] & 0x60 or not 1 <= kind <= 5:  # nal_ref_idc: a reference picture
                own = strict and kind == 1 and slice_type == _B_SLICE
                layer = min(layer, GROUP if own else NEEDED)
    kept = tuple(headers)
    return Role(key, layer, kept, tuple(sorted(kinds))) if kinds else Role(False, NEEDED, kept)


def _slice_type(head: bytes) -> int:
    """Type of an H.264 slice (its header begins with first_mb_in_slice, slice_type: both ue(v)).

    Raises:
        ValueError: the bytes are no such header.
    """
    bits = "".join(f"{byte:08b}" for byte in head)
    at = value = 0
    for _ in range(2):
        zeros = bits.index("1", at) - at
        value = int(bits[at + zeros : at + 2 * zeros + 1], 2) - 1
        at += 2 * zeros + 1
    return value % 5


def _hevc(packet: bytes, length: int) -> Role:
    units = [unit for unit in _nal_units(packet, length) if len(unit) > 1]
    kinds = [(unit[0] >> 1 & 63, unit) for unit in units if not _hevc_layer(unit)]
    pictures = {kind for kind, _ in kinds if kind < 32}
    # IDR; after a CRA picture others may need what came before it.
    key = bool(pictures) and pictures <= {19, 20}
    headers = tuple(unit for kind, unit in kinds if kind in (32, 33, 34))
    return Role(key, NEEDED, headers, tuple(sorted(pictures)))


def _hevc_layer(unit: bytes) -> int:
    """nuh_layer_id: above 0 lie other views of the scene, which are not decoded."""
    return (unit[0] & 1) << 5 | unit[1] >> 3


def _mpeg4(packet: bytes) -> Role:
    kinds, headers, key = [], [], False
    for unit in packet.split(_START)[1:]:
        if unit[:1] == b"\xb6":
            kinds.append(unit[1] >> 6)  # 0 = I, 1 = P, 2 = B, 3 = sprite
            key |= kinds == [0] and len(unit) >= EMPTY_VOP
        elif b"\x20" <= unit[:1] <= b"\x2f" or unit[:5] in _MPEG4_ENCODERS:
            headers.append(unit)
    free = bool(kinds) and set(kinds) == {2}
    return Role(key, FREE if free else NEEDED, tuple(headers), tuple(kinds), len(kinds) > 1)


def _mpeg12(packet: bytes) -> Role:
    kinds, sequence, matrices = [], False, False
    for unit in packet.split(_START)[1:]:
        if unit[:1] == b"\0":  # of a frame in two fields there are two
            kinds.append(unit[2] >> 3 & 7)  # 1 = I, 2 = P, 3 = B
        sequence |= unit[:1] == b"\xb3"  # it resets the quantiser matrices
        # A quant matrix extension: other matrices for the pictures that follow.
        matrices |= unit[:1] == b"\xb5" and unit[1] >> 4 == 3
    free = bool(kinds) and set(kinds) == {3} and not sequence and not matrices
    return Role(kinds[:1] == [1] and sequence, FREE if free else NEEDED, (), tuple(kinds))


def _vp9(packet: bytes) -> Role:
    first = packet[0] if packet else 0
    if first >> 6 != 2:  # frame_marker
        return Role(False, NEEDED)
    shift = 1 if first & 0x30 == 0x30 else 0  # profile 3 has a reserved bit
    existing, inter = first >> (3 - shift) & 1, first >> (2 - shift) & 1
    return Role(not existing and not inter, NEEDED)


def _mjpeg(packet: bytes) -> Role:
    """A picture on its own, if it brings its tables: decoders keep those of the one before."""
    at = packet.index(b"\xff\xd8") + 2
    segments = b""
    while packet[at + 1] != 0xDA:  # the scan; pictures within a segment are no pictures
        if packet[at] != 0xFF:
            raise ValueError("no segment")
        segments += packet[at + 1 : at + 2]
        at += 2 + int.from_bytes(packet[at + 2 : at + 4], "big")
    # Where some pictures bring others than the rest (Huffman tables, a comment that FFmpeg heeds),
    # they are not on their own.
    return Role(b"\xdb" in segments, NEEDED, (segments,))
