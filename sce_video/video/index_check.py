"""Does a packet index give the frames of a full decode? A few frames of each video tell.

An index that leaves out a packet which was needed gives other frames without an error. So some
frames are kept while a video is decoded, and held against what the index gives for them, on the
path that reading takes: all packets that are said to be dispensable are left out, and decoding
starts at places other than the first.
"""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame

from sce_video.video.container import upright_rgb
from sce_video.video.decode import planned
from sce_video.video.errors import DecodeError
from sce_video.video.packets import PacketIndex

_STRETCH = 6
"""Packets of a stretch that is looked at: a few pictures that build on each other."""
_APART = 150
"""Packets between two stretches at least, and always half of what lies before the later one."""
_SHARE = 0.03
"""Of a video's packets, how many are decoded again; a stretch of the beginning always is."""
_MOST_PIXELS = 1 << 28  # of the frames that are kept


class IndexCheck:
    """Frames of one video that are kept while it is decoded, by their packets."""

    def __init__(self) -> None:
        self._wanted: set[int] = set()
        self._frames: dict[int, VideoFrame] = {}
        self._pixels = self._free = 0
        self._next, self._end = 0, 0  # where a stretch may begin; where the last one ends

    def add_packet(self, number: int, *, key: bool, free: bool) -> None:
        """Choose by what the packet is said to be: may decoding start there, does nobody need it?

        Of what nobody needs, every second packet of a stretch is wanted and the others are left
        out: whoever does need one of them comes out wrong.
        """
        if key and number >= max(self._next, self._end):
            first = number == 0
            self._next, self._end = (
                max(2 * number, _APART),
                number + _STRETCH // (1 if first else 2),
            )
            self._free = 0
        if number < self._end:
            self._free += free
            if (free and self._free % 2 == 0) or number == self._end - 1:
                self._wanted.add(number)

    def add_frame(self, number: int, frame: VideoFrame) -> None:
        """Keep the decoded frame of packet ``number`` if it is wanted."""
        if number in self._wanted and self._pixels < _MOST_PIXELS:
            self._frames[number] = frame
            self._pixels += frame.width * frame.height

    def holds(self, data: bytes, index: PacketIndex) -> bool:
        """Whether the index gives the kept frames bit for bit.

        Args:
            data: the whole file.
            index: of the video that was decoded.
        """
        frames = self._chosen(index)
        numbers = np.array(sorted(frames), np.int64)
        try:
            images = planned.decode(data, numbers, index)
            return all(
                np.array_equal(image, upright_rgb(frames[number], index.orientation))
                for number, image in zip(numbers.tolist(), images, strict=True)
            )
        except DecodeError:
            return False

    def _chosen(self, index: PacketIndex) -> dict[int, VideoFrame]:
        """Kept frames by display number, as many as may be decoded again."""
        shown = index.number.tolist()
        chosen = {shown[packet]: frame for packet, frame in self._frames.items()}
        while len(chosen) > 1:
            runs = planned.plan_packets(index, np.array(sorted(chosen), np.int64))
            if sum(map(len, runs)) <= max(_STRETCH, _SHARE * len(shown)):
                break
            chosen.popitem()  # the last that was decoded
        return chosen
