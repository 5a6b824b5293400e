"""Frames by display number from exactly the packets they need, told by the packet index.

No container is opened. Frames are bit-identical to those of a full decode: decoding starts at a
picture that resets the decoder, and only pictures that no wanted one refers to are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from sce_video.media import MAX_PIXELS, upright_rgb
from sce_video.shard.packets import PacketIndex
from sce_video.stream.decode.errors import DecodeError

_STRICT = "1"
"""FF_COMPLIANCE_STRICT: an H.264 decoder without a container then waits for as many pictures as
the standard allows before it shows one, rather than guess their order and drop the late ones."""


def plan_packets(index: PacketIndex, numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Packets to feed, in decode order, to see the frames ``numbers``.

    Args:
        index: of the video.
        numbers: display numbers ``[n]``, ascending, below ``index.frames``.

    Returns:
        Runs of packets; the decoder starts afresh before each.
    """
    targets = index.packet_of[numbers]
    starts = np.searchsorted(index.keys, targets, side="right") - 1
    # Frames shown before a key but sent after it refer to what came before it (open GOPs).
    while (late := (index.number[index.keys[starts]] > numbers) & (starts > 0)).any():
        starts = starts - late
    feed = np.zeros(len(index.number), bool)
    borders: list[int] = []
    end = -1
    for start in np.unique(starts):
        first, last = int(index.keys[start]), int(targets[starts == start].max())
        feed[first : last + 1] = True
        if first > end:
            borders.append(first)
        end = max(end, last)
    layer = index.layer
    feed &= layer == 0
    group = np.cumsum(layer == 0)  # a packet of layer 0 opens a group
    feed |= (layer == 1) & np.isin(group, group[targets[layer[targets] == 2]])
    feed[targets] = True
    for target in targets:  # a packet without a frame may complete the one before it
        following = target + 1
        while following < len(feed) and index.number[following] < 0:
            feed[following] = True
            following += 1
    packets = np.flatnonzero(feed)
    return np.split(packets, np.searchsorted(packets, borders[1:]))


def decode_planned(
    data: bytes, index: PacketIndex, numbers: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Decode frames by display number; see :func:`~sce_video.stream.decode.decode_frames`."""
    if len(numbers) and numbers[-1] >= index.frames:
        raise DecodeError(f"ends before frame {index.frames}")
    place = {int(number): at for at, number in enumerate(numbers)}
    images: NDArray[np.uint8] | None = None
    found = 0
    try:
        for frame in _frames(data, index, plan_packets(index, numbers)):
            at = place.get(cast("int", frame.opaque))
            if at is None:
                continue
            if frame.is_corrupt:
                raise DecodeError(f"frame {frame.opaque} is corrupt")
            image = upright_rgb(frame, index.rotation)
            if images is None:
                images = np.empty((len(numbers), *image.shape), np.uint8)
            images[at] = image
            found += 1
    except (av.FFmpegError, ValueError) as error:
        raise DecodeError(f"does not decode: {error}") from error
    if images is None or found < len(numbers):
        raise DecodeError(f"gives {found} of {len(numbers)} frames")
    return images


def _frames(
    data: bytes, index: PacketIndex, runs: Sequence[NDArray[np.int64]]
) -> Iterator[VideoFrame]:
    """Decode ``runs`` of packets; each frame carries its display number as ``opaque``."""
    context = open_decoder(index)
    for number, run in enumerate(runs):
        if number:
            context.flush_buffers()
        columns = (index.offset[run], index.size[run], index.number[run])
        for offset, size, shown in zip(*(column.tolist() for column in columns), strict=True):
            # Allocated, then filled: decoders read a few bytes further and want zeros there. A
            # packet made of bytes would end in whatever lies behind them in memory.
            packet = av.Packet(size)
            packet.update(data[offset : offset + size])
            packet.opaque = shown
            yield from context.decode(packet)
        yield from context.decode(None)


def open_decoder(index: PacketIndex) -> VideoCodecContext:
    """A decoder set up as the container would have set it up."""
    context = cast("VideoCodecContext", av.CodecContext.create(index.codec, "r"))
    context.extradata = index.extradata or None
    context.codec_tag = index.codec_tag.ljust(4, "\0")
    context.width, context.height = index.width, index.height
    colour = index.colour
    context.color_range, context.color_primaries = colour[0], colour[1]
    context.color_trc, context.colorspace = colour[2], colour[3]
    context.thread_count = 1
    context.copy_opaque = True
    context.options = {"strict": _STRICT, "max_pixels": str(MAX_PIXELS)}
    return context
