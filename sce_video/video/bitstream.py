"""What a packet's own bytes say of it: may decoding start here, does another packet need it?

Containers mark packets as key frames where decoding cannot start cleanly (open GOPs), and say
nothing of who refers to whom. So the first bytes of each coded picture are read instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

NEEDED, GROUP, FREE = 0, 1, 2
"""Layers: later packets need it; only its own group does (strict pyramids); nobody does."""

_VIDEO_OBJECT_LAYER = re.compile(rb"\x00\x00\x01([\x20-\x2f].*?)(?=\x00\x00\x01)", re.DOTALL)
"""A header of MPEG-4, up to the next start code."""


class Role(NamedTuple):
    """What one packet is to others."""

    key: bool
    layer: int
    headers: tuple[bytes, ...] = ()
    """Parameter sets inside the packet; they change how later packets decode."""
    packed: bool = False
    """It holds two pictures, so that others of its stream may hold none of their own (DivX)."""


Reader = Callable[[bytes], Role]


def reader(codec: str, extradata: bytes, *, strict: bool = False) -> Reader | None:
    """The function that reads packets of a codec; None = not known well enough to be safe.

    Args:
        codec: FFmpeg's name.
        extradata: of the stream.
        strict: H.264 of our own encoder, whose referenced B pictures serve their own group only.
    """
    if codec == "h264":
        length = (extradata[4] & 3) + 1 if extradata[:1] == b"\x01" else 0
        return lambda packet: _h264(packet, length, strict)
    if codec == "hevc":
        length = (extradata[21] & 3) + 1 if extradata[:1] == b"\x01" else 0
        return lambda packet: _hevc(packet, length)
    return {
        "mpeg4": _mpeg4,
        "mpeg1video": _mpeg12,
        "mpeg2video": _mpeg12,
        "vp9": _vp9,
        "mjpeg": lambda packet: Role(True, FREE),
    }.get(codec)


def _nal_units(packet: bytes, length: int) -> Iterator[tuple[int, int]]:
    """Start and end of each NAL unit: after its size of ``length`` bytes, or after start codes.

    Empty ones are passed over.
    """
    at = 0
    if length:
        while at + length < len(packet):
            size = int.from_bytes(packet[at : at + length], "big")
            if size:
                yield at + length, at + length + size
            at += length + size
        return
    starts = [code.end() for code in re.finditer(b"\0\0\1", packet)]
    for start, following in pairwise([*starts, len(packet) + 3]):
        if following - 3 > start:
            yield start, following - 3


def _h264(packet: bytes, length: int, strict: bool) -> Role:
    key, layer, headers = False, FREE, []
    for start, end in _nal_units(packet, length):
        first = packet[start]
        kind = first & 31
        if kind in (7, 8, 13, 15):
            headers.append(packet[start:end].rstrip(b"\0"))
        elif 1 <= kind <= 5:
            key |= kind == 5
            if first & 0x60:  # nal_ref_idc: a reference picture
                own = strict and kind == 1 and _is_b_slice(packet[start + 1 : start + 9])
                layer = min(layer, GROUP if own else NEEDED)
    return Role(key, layer, tuple(headers))


def _is_b_slice(head: bytes) -> bool:
    """Whether an H.264 slice header (first_mb_in_slice, slice_type: both ue(v)) says B."""
    bits = "".join(f"{byte:08b}" for byte in head)
    at = value = 0
    for _ in range(2):
        zeros = bits.index("1", at) - at
        value = int(bits[at + zeros : at + 2 * zeros + 1], 2) - 1
        at += 2 * zeros + 1
    return value % 5 == 1


def _hevc(packet: bytes, length: int) -> Role:
    key, headers = False, []
    for start, end in _nal_units(packet, length):
        kind = packet[start] >> 1 & 63
        key |= kind in (19, 20)  # IDR; after a CRA picture others may need what came before it
        if kind in (32, 33, 34):
            headers.append(packet[start:end].rstrip(b"\0"))
    return Role(key, NEEDED, tuple(headers))


def _mpeg4(packet: bytes) -> Role:
    vop = packet.find(b"\0\0\1\xb6")
    if vop < 0 or vop + 4 >= len(packet):
        return Role(False, NEEDED)
    kind = packet[vop + 4] >> 6  # 0 = I, 1 = P, 2 = B, 3 = sprite
    packed = packet.find(b"\0\0\1\xb6", vop + 4) >= 0
    headers = tuple(_VIDEO_OBJECT_LAYER.findall(packet, 0, vop + 3))
    return Role(kind == 0, FREE if kind == 2 else NEEDED, headers, packed)


def _mpeg12(packet: bytes) -> Role:
    picture = packet.find(b"\0\0\1\0")
    if picture < 0 or picture + 5 >= len(packet):
        return Role(False, NEEDED)
    kind = packet[picture + 5] >> 3 & 7  # 1 = I, 2 = P, 3 = B
    sequence = packet.find(b"\0\0\1\xb3", 0, picture) >= 0  # it resets the quantiser matrices
    return Role(kind == 1 and sequence, FREE if kind == 3 else NEEDED)


def _vp9(packet: bytes) -> Role:
    first = packet[0] if packet else 0
    shift = 1 if first & 0x30 == 0x30 else 0  # profile 3 has a reserved bit
    existing, inter = first >> (3 - shift) & 1, first >> (2 - shift) & 1
    return Role(not existing and not inter, NEEDED)
