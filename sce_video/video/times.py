"""When each frame of a video is shown, from what its container says of the packets."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from av.packet import Packet
from av.video.stream import VideoStream

from sce_video.video.facts import Rejected
from sce_video.video.limits import MOST_SECONDS


class Stamp(NamedTuple):
    """Times of a packet in ticks; None = unknown."""

    shown: int | None  # when its frame is (pts)
    sent: int | None  # when it goes to the decoder (dts)
    lasts: int  # 0 = unknown


def stamp_of(packet: Packet[VideoStream]) -> Stamp:
    """Times of a packet; an AVI file knows but when it is sent, and FFmpeg guesses the others."""
    if packet.stream.container.format.name == "avi":
        return Stamp(None, packet.dts, 0)
    return Stamp(packet.pts, packet.dts, packet.duration or 0)


def display_ticks(stamps: Sequence[Stamp], rate: Fraction | None, base: Fraction) -> list[int]:
    """The tick of each frame, never before that of the one shown before it.

    Where a container has one time a packet, in decode order, frames would be shown back and forth
    wherever there are B pictures. They are given here in display order, so their times are sorted;
    where some lack, the rate has to do.

    Args:
        stamps: of the packet of each frame, in display order.
        rate: frames a second that the container states; None = unknown.
        base: seconds a tick.

    Raises:
        Rejected: there is neither.
    """
    shown = [stamp.shown for stamp in stamps if stamp.shown is not None]
    sent = [stamp.sent for stamp in stamps if stamp.sent is not None]
    if len(shown) == len(stamps) and shown == sorted(shown) and shown[0] < shown[-1]:
        return shown
    for times in (sent, shown):
        if len({*times}) == len(stamps):  # also of one frame
            return sorted(times)
    if not rate:
        raise Rejected("frames without a time")
    return [round(number / (rate * base)) for number in range(len(stamps))]


def mean_rate(ticks: Sequence[int], last: int, base: Fraction) -> tuple[float, float]:
    """Frames a second, and seconds from the first frame's start to the last one's end.

    Args:
        ticks: when each frame is shown, ascending.
        last: ticks that the last one lasts; 0 = unknown.
        base: seconds a tick.

    Raises:
        Rejected: no time passes, or more than a video may last.
    """
    # Matroska gives the last frame no duration; then it lasts as long as most others.
    steps = [later - sooner for sooner, later in pairwise(ticks)]
    span = ticks[-1] - ticks[0] + (last or median(steps or [0]))
    if span * base > MOST_SECONDS:
        raise Rejected(f"lasts more than {MOST_SECONDS:,} seconds")
    seconds = round(float(span * base), 6)
    if seconds <= 0:
        raise Rejected("frames without a time")
    return round(len(ticks) / float(span * base), 6), seconds
