"""The door: every frame of a video is decoded once, before a shard is written.

Decoders hide damage: a player shows grey blocks where a file is broken and goes on. Training would
learn them. So everything is decoded here, and what does not decode cleanly never reaches a shard.
Input is bytes, never a name: no protocol can be reached through a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sce_video.video.container import (
    CONTAINERS,
    number_of,
    number_packet,
    open_video,
    upright_rgb,
)
from sce_video.video.facts import Facts, Rejected, rejections
from sce_video.video.indexer import Indexer, Unindexable
from sce_video.video.limits import DEFAULT_LIMITS, Limits, check_bytes
from sce_video.video.orientation import UPRIGHT, Orientation, orientation_of
from sce_video.video.packets import PacketIndex
from sce_video.video.times import Stamp, display_ticks, mean_rate, stamp_of
from sce_video.video.whole.check import check_container
from sce_video.video.whole.payload import hole_finder
from sce_video.video.whole.verdicts import damaged

_CLOCK_EVERY = 16  # packets between two looks at the CPU time
_ERR_DETECT = {"mjpeg": "explode", "png": "crccheck+explode"}
"""Decoders that pass over errors without a word, unless they are told to look for them."""
Sink = Callable[[VideoFrame, int | None], None]
"""Takes a frame, and the tick that its container says it is shown at."""


def examine_video(
    data: bytes,
    limits: Limits = DEFAULT_LIMITS,
    sink: Sink | None = None,
    *,
    strict: bool = False,
    told: PacketIndex | None = None,
) -> Facts:
    """Decode every frame of a video.

    Args:
        data: the whole file.
        limits: what it may cost.
        sink: given every frame as it is decoded, to keep or to change.
        strict: see :func:`~sce_video.video.bitstream.reader`.
        told: its packet index as somebody has it, for the ``check`` of the result.

    Raises:
        Rejected: it is damaged, no video, or over a limit.
    """
    with rejections("decode error"):
        check_bytes(data, limits)
        check_container(data)
        with open_video(data, limits) as (container, stream):
            indexer = Indexer(data, stream, strict=strict, told=told)
            return _Examination(data, container, stream, limits).carry_out(indexer, sink)


class _Examination:
    """One full decode, and what it finds."""

    def __init__(
        self, data: bytes, container: InputContainer, stream: VideoStream, limits: Limits
    ) -> None:
        self._data, self._container, self._stream = data, container, stream
        self._limits = limits
        self._stamps: list[Stamp] = []  # of each packet
        self._look: tuple[object, ...] = ()  # of the frames so far: size, format, colours
        self._orientation = UPRIGHT

    def carry_out(self, indexer: Indexer, sink: Sink | None) -> Facts:
        shown: list[int] = []
        interlaced = False
        for frame in self._decode(indexer):
            number = number_of(frame)
            self._judge(frame)
            shown.append(number)
            if len(shown) > self._limits.frames:
                raise Rejected("too many frames")
            interlaced |= frame.interlaced_frame
            indexer.check.add_frame(number, frame)
            if sink is not None:
                sink(frame, self._stamps[number].shown)
        if not shown:
            raise Rejected("no frames")
        if len(shown) < self._limits.min_frames:
            raise Rejected("too short")
        orientation = self._orientation
        base, stamps = self._stream.time_base, [self._stamps[number] for number in shown]
        if base is None:
            raise Rejected("frames without a time")
        ticks = display_ticks(stamps, self._stream.average_rate, base)
        fps, duration = mean_rate(ticks, stamps[-1].lasts, base)
        packets, unindexed = None, ""
        try:
            packets = indexer.finish(shown, ticks, base, orientation)
        except Unindexable as unindexable:
            unindexed = str(unindexable)
        width, height = orientation.size(frame.width, frame.height)
        return Facts(
            *self._names(),
            frames=len(shown),
            fps=fps,
            width=width,
            height=height,
            duration=duration,
            pixel_aspect=self._pixel_aspect(orientation),
            interlaced=interlaced,
            ticks=ticks,
            time_base=base,
            packets=packets,
            unindexed=unindexed,
            check=indexer.check,
        )

    def _names(self) -> tuple[str, str]:
        """Extension, by content, and codec."""
        ext = CONTAINERS[self._container.format.name]
        if ext == "mkv" and b"webm" in self._data[:64]:  # the DocType of the EBML header
            ext = "webm"
        return ext, self._stream.codec_context.name

    def _pixel_aspect(self, orientation: Orientation) -> str:
        """Width to height of a pixel as shown; "" = square, or nothing is said."""
        aspect = self._stream.sample_aspect_ratio
        if not aspect or aspect == 1:
            return ""
        return ":".join(map(str, orientation.size(aspect.numerator, aspect.denominator)))

    def _judge(self, frame: VideoFrame) -> None:
        """Whether a frame is sound and of the kind of those before."""
        if frame.is_corrupt:
            raise Rejected("damaged frames")
        orientation = orientation_of(frame)  # some streams say it of their first frame alone
        look = frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range
        if self._look and look[:2] != self._look[:2]:
            raise Rejected("frame size changes")
        if self._look and orientation != self._orientation:
            raise Rejected("orientation changes")
        if look != self._look:
            upright_rgb(frame, orientation)  # as reading will: whether its colours are known
        self._look, self._orientation = look, orientation

    def _decode(self, indexer: Indexer) -> Iterator[VideoFrame]:
        """All frames, with the numbers that ``indexer`` gives their packets."""
        context = self._stream.codec_context
        if context.name in _ERR_DETECT:
            context.options = {**context.options, "err_detect": _ERR_DETECT[context.name]}
        has_hole = hole_finder(context.codec.canonical_name, bytes(context.extradata or b""))
        stop = time.process_time() + self._limits.cpu_seconds
        for number, packet in enumerate(self._container.demux(self._stream)):
            if packet.is_corrupt:
                raise Rejected("damaged packets")
            if packet.size:
                payload = bytes(packet)
                if has_hole(payload):
                    raise damaged(self._data, (packet.pos or 0) + packet.size - 1)
                number_packet(packet, indexer.add(packet, payload))
                self._stamps.append(stamp_of(packet))
            yield from packet.decode()
            if number % _CLOCK_EVERY == 0 and time.process_time() > stop:
                raise Rejected("takes too long to decode")
