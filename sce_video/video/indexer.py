"""Build a packet index while a video is demuxed."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.stream import VideoStream

from sce_video.video.bitstream import NEEDED, Role, reader
from sce_video.video.index_check import IndexCheck
from sce_video.video.orientation import Orientation
from sce_video.video.packets import COLOUR, KEY, LAYER_SHIFT, PacketIndex

_SEARCH = 64  # bytes behind a packet's position in which its data may begin (block headers)
_SILENT = ("mpeg4",)
"""Codecs in which a packet without a frame is harmless (the empty twin of a packed picture)."""


class Unindexable(Exception):  # noqa: N818 (a verdict, not an error)
    """Frames of this stream cannot be picked safely; the message says why."""


class Indexer:
    """Takes the packets of one video stream in decode order.

    Args:
        data: the whole media file.
        stream: its opened stream.
        strict: see :func:`~sce_video.video.bitstream.reader`.
        told: an index that is to be checked, too; what it says chooses the frames for it.
    """

    def __init__(
        self,
        data: bytes,
        stream: VideoStream,
        *,
        strict: bool = False,
        told: PacketIndex | None = None,
    ) -> None:
        self._data = data
        self._told = [] if told is None else told.kind.tolist()
        self._stream = stream
        self._extradata = bytes(stream.codec_context.extradata or b"")
        # Before decoding: of colours that change the decoder leaves the last.
        self._colour = tuple(int(getattr(stream.codec_context, name)) for name in COLOUR)
        self._read = reader(stream.codec_context.name, self._extradata, strict=strict)
        self._roles: list[Role] = []
        self._places: list[tuple[int, int]] = []
        self._shift = 0
        self._discarded: set[int] = set()
        self._reason = ""
        self.check = IndexCheck()

    def add(self, packet: av.Packet[VideoStream], payload: bytes) -> int:
        """Note a packet and its bytes, of which it has some; returns its number."""
        number = len(self._places)
        place = -1 if packet.pos is None else self._find(payload, packet.pos)
        self._places.append((place, len(payload)))
        if packet.is_discard:
            self._discarded.add(number)
        if self._read is not None and place >= 0:
            role = self._read(payload)
            self._roles.append(role)
            if number < len(self._told):
                kind = self._told[number]
                role = role._replace(key=bool(kind & KEY), layer=kind >> LAYER_SHIFT)
            if not packet.is_discard:
                self.check.add_packet(number, role)
        elif not self._reason:
            name = self._stream.codec_context.name
            self._reason = f"codec {name}" if self._read is None else "packets lie in pieces"
        for extra in packet.iter_sidedata():
            if extra.data_type in ("new_extradata", "param_change"):
                self._reason = self._reason or "parameters change"
        return number

    def finish(
        self,
        shown: Sequence[int],
        pts: Sequence[int],
        time_base: Fraction,
        orientation: Orientation,
    ) -> PacketIndex:
        """The index.

        Args:
            shown: packet of each frame, in display order.
            pts: time of each frame, in ticks of ``time_base``.
            time_base: seconds a tick.
            orientation: how frames become upright.

        Raises:
            Unindexable: the codec is not known well enough, packets are scattered over the file,
                packets and frames do not match one to one, or the index would give other frames.
        """
        if self._reason:
            raise Unindexable(self._reason)
        count = len(self._places)
        number = np.full(count, -1, np.int32)
        number[list(shown)] = np.arange(len(shown))
        if np.count_nonzero(number >= 0) != len(shown):
            raise Unindexable("two frames in one packet")
        context = self._stream.codec_context
        silent = set(np.flatnonzero(number < 0).tolist()) - self._discarded
        if silent and context.name not in _SILENT:
            raise Unindexable("packets without a frame")
        ticks = np.zeros(count, np.int64)
        ticks[list(shown)] = np.asarray(pts, np.int64) - min(pts)
        place, size = np.array(self._places, np.uint32).T
        foreign = [tuple(h for h in r.headers if h not in self._extradata) for r in self._roles]
        layer = np.array([role.layer for role in self._roles])
        layer[(number < 0) | np.array([bool(headers) for headers in foreign])] = NEEDED
        if any(role.packed for role in self._roles):
            layer[:] = NEEDED
        kind = (layer << LAYER_SHIFT) | np.where(self._keys(foreign), KEY, 0)
        index = PacketIndex(
            codec=context.name,
            codec_tag=context.codec_tag,
            extradata=self._extradata,
            width=context.width,
            height=context.height,
            orientation=orientation,
            colour=self._colour,
            time_base=time_base,
            pts=ticks,
            offset=place,
            size=size,
            number=number,
            kind=kind.astype(np.uint8),
        )
        if not self.check.holds(self._data, index):
            raise Unindexable("its packets give other frames")
        return index

    def _find(self, payload: bytes, at: int) -> int:
        """Where a packet's bytes lie in the file as one piece; -1 = they do not."""
        if self._data.startswith(payload, at + self._shift):
            return at + self._shift
        place = self._data.find(payload, max(at, 0), at + len(payload) + _SEARCH)
        self._shift = place - at if place >= 0 else self._shift
        return place

    def _keys(self, foreign: Sequence[tuple[bytes, ...]]) -> list[bool]:
        """Packets where decoding may start; ``foreign`` = parameter sets not in the extradata."""
        context = self._stream.codec_context
        keys = [role.key for role in self._roles]
        starts = {headers for headers, key in zip(foreign, keys, strict=True) if key}
        inside = any(headers and not key for headers, key in zip(foreign, keys, strict=True))
        # FFmpeg decodes 4:4:4 by the build of x264, which only the first packet names.
        by_build = context.name == "h264" and "444" in (context.pix_fmt or "")
        if inside or len(starts) > 1 or by_build:
            return [number == 0 for number in range(len(keys))]
        return keys
