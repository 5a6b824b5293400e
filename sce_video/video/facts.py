"""Decode one video or image completely, once, and say what it is or why it is rejected.

Decoders hide damage: a player shows grey blocks where a file is broken and goes on. Training would
learn them. So everything is decoded here, where there is time, and what does not decode cleanly
never reaches a shard. Input is bytes, never a name: no protocol can be reached through a file.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import cast

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from sce_video.video.container import (
    CONTAINERS,
    MAX_PIXELS,
    MediaError,
    number_of,
    number_packet,
    open_video,
)
from sce_video.video.indexer import Indexer, Unindexable
from sce_video.video.packets import PacketIndex
from sce_video.video.truncation import is_cut

_CLOCK_EVERY = 16
"""Packets between two looks at the CPU time."""
_IMAGE_FORMATS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png"}
"""Pillow's names; MPO is a JPEG with a second picture behind it, opened as JPEG."""


@dataclass(frozen=True)
class Limits:
    """What one file may cost. All but the CPU time are properties of the file alone."""

    bytes: int = 1 << 30
    frames: int = 500_000
    pixels: int = MAX_PIXELS
    """Per frame."""
    cpu_seconds: int = 1_200
    min_frames: int = 2


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decoded file is."""

    ext: str
    """By content, not by name."""
    codec: str
    frames: int
    fps: float
    """frames / duration; 0 for images."""
    width: int
    """As displayed: after rotation. Pixel aspect ratios are not applied (no decoder does)."""
    height: int
    duration: float
    """Seconds from the first frame's start to the last one's end; 0 for images."""
    packets: PacketIndex | None = field(default=None, compare=False)
    unindexed: str = ""
    """Why a video has no packet index."""


class Rejected(Exception):  # noqa: N818 (a verdict, not an error)
    """The file does not qualify; the message is the reason, the same for the same bytes."""


Sink = Callable[[VideoFrame], None]


def examine_video(data: bytes, limits: Limits = Limits(), sink: Sink | None = None) -> Facts:
    """Decode every frame of a video.

    Args:
        data: the whole file.
        limits: what it may cost.
        sink: given every frame as it is decoded, to keep or to change.

    Raises:
        Rejected: it is damaged, no video, or over a limit.
    """
    _check_size(data, limits)
    if is_cut(data):
        raise Rejected("cut off")
    try:
        with open_video(data) as (container, stream):
            ext = CONTAINERS[container.format.name]
            if ext == "mkv" and b"webm" in data[:64]:  # the DocType of the EBML header
                ext = "webm"
            return _Video(data, stream, sink).decode(container, limits).probe(ext)
    except MediaError as error:
        raise Rejected(str(error)) from error


def _check_size(data: bytes, limits: Limits) -> None:
    if len(data) > limits.bytes:
        raise Rejected("file too large")
    if not data:
        raise Rejected("empty file")


class _Video:
    """Decodes one stream and accumulates what its frames have in common."""

    def __init__(self, data: bytes, stream: VideoStream, sink: Sink | None) -> None:
        self._stream = stream
        self._sink = sink
        self._indexer = Indexer(data, stream)
        self._shown: list[int] = []
        self._pts: list[int] = []
        self._size = (0, 0)
        self._rotation = 0
        self._time_base: Fraction | None = None
        self._last_duration = 0

    def decode(self, container: InputContainer, limits: Limits) -> _Video:
        context = self._stream.codec_context
        if context.width * context.height > limits.pixels:
            raise Rejected("frames too large")
        stop = time.process_time() + limits.cpu_seconds
        try:
            for number, packet in enumerate(container.demux(self._stream)):
                if packet.is_corrupt:
                    raise Rejected("damaged packets")
                if packet.size:
                    number_packet(packet, self._indexer.add(packet))
                for frame in packet.decode():
                    self._add(frame)
                if len(self._pts) > limits.frames:
                    raise Rejected("too many frames")
                if number % _CLOCK_EVERY == 0 and time.process_time() > stop:
                    raise Rejected("takes too long to decode")
        except (av.FFmpegError, ValueError) as error:
            raise Rejected("decode error") from error
        if not self._pts:
            raise Rejected("no frames")
        if len(self._pts) < limits.min_frames:
            raise Rejected("too short")
        return self

    def _add(self, frame: VideoFrame) -> None:
        if self._time_base is None:  # looking it up makes a Fraction each time
            self._size, self._rotation = (frame.width, frame.height), frame.rotation % 360
            self._time_base = frame.time_base
            if self._time_base is None:
                raise Rejected("frames without a time")
            if self._rotation % 90:
                raise Rejected("rotated by less than a quarter turn")
        pts = frame.pts
        if frame.is_corrupt:
            raise Rejected("damaged frames")
        if (frame.width, frame.height) != self._size:
            raise Rejected("frame size changes")
        if pts is None:
            raise Rejected("frames without a time")
        self._shown.append(number_of(frame))
        self._pts.append(pts)
        self._last_duration = frame.duration
        if self._sink is not None:
            self._sink(frame)

    def probe(self, ext: str) -> Facts:
        """What was found."""
        pts, time_base = self._pts, cast("Fraction", self._time_base)
        steps = [later - sooner for sooner, later in pairwise(pts)]
        # Matroska gives the last frame no duration; then it lasts as long as most others.
        ticks = max(pts) - min(pts) + (self._last_duration or median(steps or [0]))
        if ticks <= 0:
            raise Rejected("frames without a time")
        duration = float(ticks * time_base)
        width, height = self._size if self._rotation % 180 == 0 else self._size[::-1]
        packets, reason = None, ""
        try:
            packets = self._indexer.finish(self._shown, pts, time_base, self._rotation)
        except Unindexable as unindexable:
            reason = str(unindexable)
        return Facts(
            ext=ext,
            codec=self._stream.codec_context.name,
            frames=len(pts),
            fps=round(len(pts) / duration, 6),
            width=width,
            height=height,
            duration=round(duration, 6),
            packets=packets,
            unindexed=reason,
        )


def examine_image(data: bytes, limits: Limits = Limits()) -> Facts:
    """Decode a JPEG or PNG completely. Width and height are as stored (no EXIF rotation).

    Args:
        data: the whole file.
        limits: what it may cost.

    Raises:
        Rejected: it is damaged, of another format, or over a limit.
    """
    _check_size(data, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF; the size is judged below, by our limit
            image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG"])
        width, height = image.size
        if width * height > limits.pixels:
            raise Rejected("image too large")
        form = image.format or ""
        image.load()
    except Image.DecompressionBombError as error:
        raise Rejected("image too large") from error
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
        raise Rejected("damaged image") from error
    codec = "png" if form == "PNG" else "jpeg"
    return Facts(_IMAGE_FORMATS[form], codec, 1, 0.0, width, height, 0.0)
