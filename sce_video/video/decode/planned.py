"""Frames by display number from exactly the packets they need, told by the packet index.

No container is opened. Frames are bit-identical to those of a full decode: decoding starts at a
picture that resets the decoder, and only pictures that no wanted one refers to are left out.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence, Set
from typing import cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from sce_video.video.container import number_of, number_packet, upright_rgb
from sce_video.video.errors import DecodeError, decode_errors
from sce_video.video.limits import DEFAULT_LIMITS
from sce_video.video.packets import COLOUR, LAYER_SHIFT, PacketIndex

_NOTHING = np.zeros((0, 0, 3), np.uint8)
_STRICT = "1"
"""FF_COMPLIANCE_STRICT: an H.264 decoder without a container then waits for as many pictures as
the standard allows before it shows one, rather than guess their order and drop the late ones."""


def plan_packets(index: PacketIndex, numbers: NDArray[np.int64]) -> list[list[int]]:
    """Packets to feed, in decode order, to see the frames ``numbers``.

    Args:
        index: of the video.
        numbers: display numbers ``[n]``, ascending, below ``index.frames``.

    Returns:
        Runs of packets; the decoder starts afresh before each.

    Raises:
        DecodeError: there is no such frame.
    """
    # Plain lists: between two decodes NumPy's code is cold, and a call costs more than these steps.
    kinds, shown = index.kind.tolist(), index.number.tolist()
    packet_of = {number: packet for packet, number in enumerate(shown)}
    starts = index.keys
    feed: set[int] = set()
    last_of: dict[int, int] = {}  # packet to start at -> last target from there
    for number in numbers.tolist():
        target = packet_of.get(number)
        if target is None:
            raise DecodeError(f"ends before frame {index.frames}")
        place = bisect_right(starts, target) - 1
        # Frames shown before a key but sent after it refer to what came before it (open GOPs).
        while place and shown[starts[place]] > number:
            place -= 1
        start = starts[place]
        last_of[start] = max(target, last_of.get(start, target))
        feed.add(target)
    feed |= _second_layer(kinds, feed)
    borders, end = [], -1
    for first, last in sorted(last_of.items()):
        feed.update(i for i in range(first, last + 1) if kinds[i] >> LAYER_SHIFT == 0)
        if first > end:
            borders.append(first)
        end = max(end, last)
    if -1 in packet_of:
        for packet in tuple(feed):  # those without a frame may complete the one before them
            behind = range(packet + 1, len(shown))
            # One that is fed has its own turn: together they are looked at once.
            new = itertools.takewhile(lambda i: shown[i] < 0 and i not in feed, behind)
            feed.update(new)
    packets = sorted(feed)
    cuts = [*(bisect_left(packets, border) for border in borders), len(packets)]
    return [packets[a:b] for a, b in itertools.pairwise(cuts)]


def _second_layer(kinds: Sequence[int], targets: Set[int]) -> set[int]:
    """Packets of layer 1 in the groups of targets of layer 2; a packet of layer 0 opens a group."""
    found, end = set[int](), 0
    for target in sorted(targets):
        if target >= end and kinds[target] >> LAYER_SHIFT == 2:
            first = end = target
            while first and kinds[first] >> LAYER_SHIFT:
                first -= 1
            while end < len(kinds) and kinds[end] >> LAYER_SHIFT:
                end += 1
            found.update(i for i in range(first, end) if kinds[i] >> LAYER_SHIFT == 1)
    return found


def decode(data: bytes, numbers: NDArray[np.int64], index: PacketIndex) -> list[NDArray[np.uint8]]:
    """Decode frames by display number; see :func:`~sce_video.video.decode.decode_frames`."""
    index.check_extents(len(data))
    images: dict[int, NDArray[np.uint8]] = dict.fromkeys(numbers.tolist(), _NOTHING)
    with decode_errors():
        for frame in _frames(data, index, plan_packets(index, numbers)):
            number = number_of(frame)
            if number in images:
                if frame.is_corrupt:
                    raise DecodeError(f"frame {number} is corrupt")
                images[number] = upright_rgb(frame, index.orientation)
    found = list(images.values())
    missing = sum(image is _NOTHING for image in found)
    if missing:
        raise DecodeError(f"gives {len(found) - missing} of {len(found)} frames")
    return found


def _frames(data: bytes, index: PacketIndex, runs: Sequence[Sequence[int]]) -> Iterator[VideoFrame]:
    """Decode ``runs`` of packets; each frame has its display number (``number_of``)."""
    context = take_decoder(index)
    offsets, sizes, shown = index.offset.tolist(), index.size.tolist(), index.number.tolist()
    for run in runs:
        for place in run:
            offset, size = offsets[place], sizes[place]
            # Allocated, then filled: decoders read a few bytes further and want zeros there. A
            # packet made of bytes would end in whatever lies behind them in memory.
            packet = av.Packet(size)
            packet.update(data[offset : offset + size])
            number_packet(packet, shown[place])
            yield from context.decode(packet)
        yield from context.decode(None)
        context.flush_buffers()
    keep_decoder(index, context)  # not after an error: what it left is dropped


_FLUSHED = "h264"
"""The codec whose decoder is as new once it is flushed; that of MPEG-4 was seen not to be."""
_kept: dict[tuple[object, ...], VideoCodecContext] = {}


def take_decoder(index: PacketIndex) -> VideoCodecContext:
    """A decoder for a video: the kept one if it is of its kind, else a new one."""
    kept = _kept.pop(_settings(index), None)
    _kept.clear()
    return kept or open_decoder(index)


def keep_decoder(index: PacketIndex, context: VideoCodecContext) -> None:
    """Keep a flushed decoder for the next video of its encoder and size.

    To open one, and to get memory for its frames, takes 5% to 8% of decoding a layered video. No
    other is kept: parameter sets and colours inside of a video outlive a flush, and those of our
    own encoder alone hold none.
    """
    own = bool(np.any(index.kind >> LAYER_SHIFT == 1))  # nobody else's have such packets
    if own and index.codec == _FLUSHED:
        _kept[_settings(index)] = context


def _settings(index: PacketIndex) -> tuple[object, ...]:
    return index.codec, index.codec_tag, index.extradata, index.colour, index.width, index.height


def open_decoder(index: PacketIndex) -> VideoCodecContext:
    """A decoder set up as the container would have set it up."""
    context = cast("VideoCodecContext", av.CodecContext.create(index.codec, "r"))
    context.extradata = index.extradata or None
    context.codec_tag = index.codec_tag.ljust(4, "\0")
    context.width, context.height = index.width, index.height
    for name, value in zip(COLOUR, index.colour, strict=True):
        setattr(context, name, value)
    context.thread_count = 1
    context.copy_opaque = True
    context.options = {"strict": _STRICT, "max_pixels": str(DEFAULT_LIMITS.pixels)}
    return context
