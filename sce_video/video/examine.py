"""The door: every frame of a video is decoded once, before a shard is written.

Decoders hide damage: a player shows grey blocks where a file is broken and goes on. Training would
learn them. So everything is decoded here, and what does not decode cleanly never reaches a shard.
Input is bytes, never a name: no protocol can be reached through a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sce_video.video.container import (
    CONTAINERS,
    number_of,
    number_packet,
    open_video,
    upright_size,
)
from sce_video.video.errors import DecodeError
from sce_video.video.facts import DEFAULT_LIMITS, Facts, Limits, Rejected, check_size, mean_rate
from sce_video.video.indexer import Indexer, Unindexable
from sce_video.video.whole.check import check_container
from sce_video.video.whole.payload import hole_finder
from sce_video.video.whole.verdicts import damaged

_CLOCK_EVERY = 16  # packets between two looks at the CPU time
Sink = Callable[[VideoFrame], None]


def examine_video(data: bytes, limits: Limits = DEFAULT_LIMITS, sink: Sink | None = None) -> Facts:
    """Decode every frame of a video.

    Args:
        data: the whole file.
        limits: what it may cost.
        sink: given every frame as it is decoded, to keep or to change.

    Raises:
        Rejected: it is damaged, no video, or over a limit.
    """
    check_size(data, limits)
    check_container(data)
    try:
        with open_video(data) as (container, stream):
            return _examine(data, container, stream, limits, sink)
    except DecodeError as error:
        raise Rejected(str(error)) from error


def _examine(
    data: bytes, container: InputContainer, stream: VideoStream, limits: Limits, sink: Sink | None
) -> Facts:
    indexer = Indexer(data, stream)
    frames = _decode(data, container, stream, indexer, limits)
    first = next(frames, None)
    if first is None:
        raise Rejected("no frames")
    size, rotation, base = (first.width, first.height), first.rotation % 360, first.time_base
    if base is None:
        raise Rejected("frames without a time")
    if rotation % 90:
        raise Rejected("rotated by less than a quarter turn")
    shown: list[int] = []
    pts: list[int] = []
    last = 0
    for frame in chain([first], frames):
        if frame.is_corrupt:
            raise Rejected("damaged frames")
        if (frame.width, frame.height) != size:
            raise Rejected("frame size changes")
        if frame.pts is None:
            raise Rejected("frames without a time")
        shown.append(number_of(frame))
        pts.append(frame.pts)
        last = frame.duration
        if len(pts) > limits.frames:
            raise Rejected("too many frames")
        if sink is not None:
            sink(frame)
    if len(pts) < limits.min_frames:
        raise Rejected("too short")
    fps, duration = mean_rate(pts, last, base)
    packets, unindexed = None, ""
    try:
        packets = indexer.finish(shown, pts, base, rotation)
    except Unindexable as unindexable:
        unindexed = str(unindexable)
    ext, codec = CONTAINERS[container.format.name], stream.codec_context.name
    if ext == "mkv" and b"webm" in data[:64]:  # the DocType of the EBML header
        ext = "webm"
    return Facts(ext, codec, len(pts), fps, *upright_size(first), duration, packets, unindexed)


def _decode(
    data: bytes, container: InputContainer, stream: VideoStream, indexer: Indexer, limits: Limits
) -> Iterator[VideoFrame]:
    """All frames, with the numbers that ``indexer`` gives their packets."""
    context = stream.codec_context
    if context.width * context.height > limits.pixels:
        raise Rejected("frames too large")
    if context.name == "mjpeg":  # whose decoder passes over errors in a scan without a word
        context.options = {**context.options, "err_detect": "explode"}
    has_hole = hole_finder(context.codec.canonical_name, bytes(context.extradata or b""))
    stop = time.process_time() + limits.cpu_seconds
    try:
        for number, packet in enumerate(container.demux(stream)):
            if packet.is_corrupt:
                raise Rejected("damaged packets")
            if packet.size:
                if has_hole(bytes(packet)):
                    raise damaged(data, (packet.pos or 0) + packet.size - 1)
                number_packet(packet, indexer.add(packet))
            yield from packet.decode()
            if number % _CLOCK_EVERY == 0 and time.process_time() > stop:
                raise Rejected("takes too long to decode")
    except (av.FFmpegError, ValueError) as error:
        raise Rejected("decode error") from error
