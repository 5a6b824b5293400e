"""Does a packet index give the frames of a full decode? A few frames of each video tell.

An index that leaves out a packet which was needed gives other frames without an error. So some
frames are kept while a video is decoded, and held against what the index gives for them, on the
path that reading takes. Among them are the successors of the first packet of each kind that is said
to be dispensable: no kind is left out in training that was not left out here, and missed by nobody.
"""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame

from sce_video.video.bitstream import FREE, Role
from sce_video.video.container import upright_rgb
from sce_video.video.decode import planned
from sce_video.video.errors import DecodeError
from sce_video.video.packets import PacketIndex

_STRETCH = 6
"""Packets of a stretch of which the last is looked at: some pictures that build on each other."""
_SHARE = 0.03
"""Of a video's packets, how many are decoded again; two stretches always are (of most videos the
second begins at another place to start), and where a kind is met later that is left out, those up
to there, once."""
_MOST_KINDS = 4
_SUCCESSORS = 2
_MOST_PIXELS = 1 << 28  # of the frames that are kept


class IndexCheck:
    """Frames of one video that are kept while it is decoded, by their packets."""

    def __init__(self) -> None:
        self._kinds: set[object] = set()  # of packets that nobody is said to need
        self._here: set[object] = set()  # those of this stretch
        self._wanted: dict[int, bool] = {}  # packet -> whether it is looked at in any case
        self._frames: dict[int, VideoFrame] = {}
        self._next = self._end = 0  # where a stretch may begin; where this one ends
        self._due = self._pixels = 0  # successors to come; of the frames that are kept
        self._first = False  # whether they are those of the first packet of its kind

    def add_packet(self, number: int, role: Role) -> None:
        """Choose by what a packet that is shown is said to be."""
        if role.key and number >= self._next:
            self._next = 2 * number or _STRETCH
            self._end = number + _STRETCH
            self._here = set()
            self._wanted[self._end - 1] = not number
        if self._due:
            self._due -= 1
            self._wanted[number] = self._wanted.get(number, False) or self._first
        if role.layer == FREE and role.kind not in self._here:
            self._first = role.kind not in self._kinds and len(self._kinds) < _MOST_KINDS
            if self._first or number < self._end:
                self._here.add(role.kind)
                self._kinds.add(role.kind)
                self._due = _SUCCESSORS
                self._wanted.pop(number, None)

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
        shown = index.number.tolist()
        try:
            index.check()  # as whoever reads it will
            index.check_extents(len(data))
            # Each stretch by a decoder that has seen no other, as a clip may lie in that one alone.
            for run in planned.plan_packets(index, np.array(sorted(frames), np.int64)):
                numbers = sorted({shown[packet] for packet in run} & frames.keys())
                images = planned.decode(data, np.array(numbers, np.int64), index)
                for number, image in zip(numbers, images, strict=True):
                    if not np.array_equal(image, upright_rgb(frames[number], index.orientation)):
                        return False
        except DecodeError:
            return False
        return True

    def _chosen(self, index: PacketIndex) -> dict[int, VideoFrame]:
        """Kept frames by display number, as many as may be decoded again."""
        shown = index.number.tolist()
        chosen = dict(sorted(self._frames.items()))
        spare = [packet for packet in chosen if not self._wanted[packet]]
        while True:
            frames = {shown[packet]: frame for packet, frame in chosen.items()}
            if not spare:
                return frames
            runs = planned.plan_packets(index, np.array(sorted(frames), np.int64))
            if sum(map(len, runs)) <= max(_SHARE * len(shown), 2 * _STRETCH):
                return frames
            del chosen[spare.pop(0)]
