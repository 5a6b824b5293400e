"""When each frame of a video is shown, from what its container says of the packets."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from sce_video.video.facts import Rejected


class Stamp(NamedTuple):
    """Times of a packet in ticks; None = the container gives none."""

    shown: int | None  # when its frame is (pts)
    sent: int | None  # when it goes to the decoder (dts)


def display_ticks(stamps: Sequence[Stamp], rate: Fraction | None, base: Fraction) -> list[int]:
    """The tick of each frame, never before that of the one shown before it.

    AVI has but one time a packet, in decode order, and so have files that were made from it: taken
    for display times they run back and forth wherever there are B pictures. The frames are in
    display order, so the times are sorted; where some lack, the rate has to do.

    Args:
        stamps: of the packet of each frame, in display order.
        rate: frames a second that the container states; None = unknown.
        base: seconds a tick.

    Raises:
        Rejected: there is neither.
    """
    for times in ([stamp.shown for stamp in stamps], [stamp.sent for stamp in stamps]):
        known = [time for time in times if time is not None]
        if len(known) == len(times) and (known == sorted(known) or len({*known}) == len(known)):
            return sorted(known)
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
        Rejected: no time passes.
    """
    # Matroska gives the last frame no duration; then it lasts as long as most others.
    steps = [later - sooner for sooner, later in pairwise(ticks)]
    span = ticks[-1] - ticks[0] + (last or median(steps or [0]))
    if span <= 0:
        raise Rejected("frames without a time")
    seconds = float(span * base)
    return round(len(ticks) / seconds, 6), round(seconds, 6)
