"""The packet index ``idx``: how to decode any frame of a video without opening its container.

For each packet: where its bytes lie in the media file, which frame it gives, and who needs it. The
byte layout is written down in ``shards/README.md``; nothing in it is executed.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sce_video.video.errors import DecodeError
from sce_video.video.limits import DEFAULT_LIMITS, check_pixels
from sce_video.video.orientation import Orientation

IDX_VERSION = 1
_MAGIC = b"SVIX"
_HEAD = struct.Struct("<4sHHIIiiII4B4sII")
_COLUMNS = (("pts", "<i8"), ("offset", "<u4"), ("size", "<u4"), ("number", "<i4"), ("kind", "u1"))

CODECS = ("h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "vp9", "mjpeg")
"""Codecs that are indexed, by FFmpeg's names; nothing else is opened for an index."""
COLOUR = ("color_range", "color_primaries", "color_trc", "colorspace")
"""Of a decoder, what :attr:`PacketIndex.colour` holds, by PyAV's names."""
_MOST_RANGE = 2
"""No container says more; other colours are any byte, as MPEG-2 has them, and decoders pass on."""
_MOST_REPEATS = 1_000  # as many edits may show the same packets
_MOST_EXTRADATA = 1 << 20  # bytes
_MOST_KIND = 2 << 1 | 1
KEY = 1
"""Bit of ``kind``: decoding may start here for frames shown at or after this packet's own."""
LAYER_SHIFT = 1
"""``kind >> LAYER_SHIFT``: 0 = later packets need it; 1 = only packets up to the next of layer 0
do; 2 = nobody does."""


class IdxError(DecodeError):
    """Bytes that are no packet index of this version."""


@dataclass(frozen=True)
class PacketIndex:
    """Packets of one video in decode order; columns of N entries."""

    codec: str
    codec_tag: str
    extradata: bytes
    width: int  # as decoded, not yet upright
    height: int
    orientation: Orientation  # how its frames become upright
    colour: tuple[int, ...]  # ``COLOUR`` as the container gives it (FFmpeg's numbers)
    time_base: Fraction  # seconds a tick of ``pts``
    pts: NDArray[np.int64]
    """Ticks from the first frame's start to this one's; 0 where a packet gives no frame."""
    offset: NDArray[np.uint32]  # bytes from the start of the media file
    size: NDArray[np.uint32]
    number: NDArray[np.int32]  # place of its frame in display order, from 0; -1 = it gives none
    kind: NDArray[np.uint8]  # ``KEY`` and layer

    def check(self) -> None:
        """Refuse what no video has, before anything is made room for or decoded by it.

        Raises:
            IdxError: numbers that are none, a size over the limit, frames that lack or are there
                twice.
        """
        colours = self.colour[0] <= _MOST_RANGE and 0 <= min(self.colour) <= max(self.colour) < 256
        sides = min(self.width, self.height) > 0 and len(self.extradata) <= _MOST_EXTRADATA
        order = np.sort(self.number)[-self.frames or len(self.number) :]
        if not (
            colours
            and sides
            and 0 < self.frames <= DEFAULT_LIMITS.frames
            and self.number.min() >= -1
            and np.array_equal(order, np.arange(self.frames))
            and self.pts.min() >= 0
            and self.size.min() > 0
            and self.kind.max() <= _MOST_KIND
        ):
            raise IdxError("packet index makes no sense")
        check_pixels(self.width, self.height)

    def check_extents(self, media: int) -> None:
        """Refuse packets that are not in a media file of ``media`` bytes, each in its own place.

        Where edits show media more than once, so do packets.

        Raises:
            IdxError: some reach behind its end, or different ones are together more than it, or
                one is there more often than edits can show it.
        """
        end = (self.offset.astype(np.int64) + self.size).max()
        if end > media or (self.size.sum(dtype=np.int64) > media and self._overlap(media)):
            raise IdxError("packet index is not of this file")

    def _overlap(self, media: int) -> bool:
        places = self.offset.astype(np.uint64) << np.uint64(32) | self.size
        unique, repeats = np.unique(places, return_counts=True)
        size = (unique & np.uint64(2**32 - 1)).sum()
        return bool(size > media or repeats.max() > _MOST_REPEATS)

    @cached_property
    def frames(self) -> int:
        """How many frames the video shows."""
        return int(np.count_nonzero(self.number >= 0))

    @cached_property
    def keys(self) -> list[int]:
        """Packets where decoding may start, ascending; the first packet always is one."""
        # A plain list: NumPy's code is cold between two decodes.
        packets = enumerate(zip(self.kind.tolist(), self.number.tolist(), strict=True))
        keys = [packet for packet, (kind, number) in packets if kind & KEY and number >= 0]
        return keys if keys[:1] == [0] else [0, *keys]

    def to_bytes(self) -> bytes:
        """The ``idx`` member."""
        name = self.codec.encode("ascii")
        head = _HEAD.pack(
            _MAGIC,
            IDX_VERSION,
            self.orientation.degrees + self.orientation.mirrored,
            len(self.number),
            self.frames,
            self.time_base.numerator,
            self.time_base.denominator,
            self.width,
            self.height,
            *self.colour,
            self.codec_tag.encode("latin-1").ljust(4, b"\0"),
            len(name),
            len(self.extradata),
        )
        columns = [getattr(self, column).astype(form).tobytes() for column, form in _COLUMNS]
        body = b"".join([head, name, self.extradata, *columns])
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> PacketIndex:
        """Read an ``idx`` member.

        Raises:
            IdxError: damaged, or of another version.
        """
        if len(data) < _HEAD.size + 4 or data[:4] != _MAGIC:
            raise IdxError("no packet index")
        if zlib.crc32(memoryview(data)[:-4]) != struct.unpack("<I", data[-4:])[0]:
            raise IdxError("packet index damaged")
        _, version, turn, count, frames, num, den, width, height, *rest = _HEAD.unpack_from(data)
        colour, tag, name, extra = tuple(rest[:4]), *rest[4:]
        if version != IDX_VERSION:
            raise IdxError(f"packet index of version {version}; this reads {IDX_VERSION}")
        at = _HEAD.size + name + extra
        whole = at + count * sum(np.dtype(form).itemsize for _, form in _COLUMNS) + 4 == len(data)
        codec = data[_HEAD.size :][:name].decode("ascii", "replace")
        orientation = Orientation(turn % 2 == 1, turn - turn % 2)
        odd = orientation.degrees not in (0, 90, 180, 270) or den <= 0 or num <= 0
        if not whole or not count or codec not in CODECS or odd:
            raise IdxError("packet index makes no sense")
        columns = {}
        for column, form in _COLUMNS:
            columns[column] = np.frombuffer(data, form, count, at)
            at += columns[column].nbytes
        index = cls(
            codec=codec,
            codec_tag=tag.rstrip(b"\0").decode("latin-1"),
            extradata=data[_HEAD.size + name :][:extra],
            width=width,
            height=height,
            orientation=orientation,
            colour=colour,
            time_base=Fraction(num, den),
            **columns,
        )
        if index.frames != frames:
            raise IdxError("packet index makes no sense")
        index.check()
        return index
