"""What a video or image is: its frames, rate, size, turn and duration, or why it is rejected.

Decoders hide damage: a player shows grey blocks where a file is broken and goes on. Training would
learn them. So before a shard is written everything is decoded here, once (:func:`examine_video`),
and what does not decode cleanly never reaches it. :func:`peek` says as much of a file as can be
known at reading time. Input is bytes, never a name: no protocol can be reached through a file.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, pairwise
from statistics import median

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from sce_video.video.container import (
    CONTAINERS,
    IMAGE_MAGIC,
    MAX_PIXELS,
    number_of,
    number_packet,
    open_video,
    upright_size,
)
from sce_video.video.errors import DecodeError
from sce_video.video.indexer import Indexer, Unindexable
from sce_video.video.packets import PacketIndex
from sce_video.video.truncation import is_cut

_CLOCK_EVERY = 16  # packets between two looks at the CPU time
_EMPTY_VOP = 19  # bytes; FFmpeg's bound for the MPEG-4 packets that show no frame of their own
_IMAGES = {"JPEG": ("jpg", "jpeg"), "MPO": ("jpg", "jpeg"), "PNG": ("png", "png")}
"""Pillow's names -> extension and codec; MPO is a JPEG with a second picture behind it."""


@dataclass(frozen=True)
class Limits:
    """What one file may cost. All but the CPU time are properties of the file alone."""

    bytes: int = 1 << 30
    frames: int = 500_000
    pixels: int = MAX_PIXELS  # per frame
    cpu_seconds: int = 1_200
    min_frames: int = 2


@dataclass(frozen=True)
class Video:
    """What a clip is drawn by. An image is a video of one frame and no rate."""

    frames: int
    fps: float  # mean rate, frames / duration; 0 for an image
    height: int  # as displayed, as ``width``
    width: int

    @property
    def duration(self) -> float:
        """Seconds; 0 for an image."""
        return self.frames / self.fps if self.fps else 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decoded file is."""

    ext: str  # by content, not by name
    codec: str
    frames: int
    fps: float  # frames / duration; 0 for images
    width: int
    """As displayed: after rotation. Pixel aspect ratios are not applied (no decoder does)."""
    height: int
    duration: float  # seconds from the first frame's start to the last one's end; 0 for images
    packets: PacketIndex | None = field(default=None, compare=False)
    unindexed: str = ""  # why a video has no packet index


class Rejected(DecodeError):  # noqa: N818 (a verdict, not an error)
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
            return _examine(data, container, stream, limits, sink)
    except DecodeError as error:
        raise Rejected(str(error)) from error


def _examine(
    data: bytes, container: InputContainer, stream: VideoStream, limits: Limits, sink: Sink | None
) -> Facts:
    indexer = Indexer(data, stream)
    frames = _decode(container, stream, indexer, limits)
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
    fps, duration = _rate(pts, last, base)
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
    container: InputContainer, stream: VideoStream, indexer: Indexer, limits: Limits
) -> Iterator[VideoFrame]:
    """All frames, with the numbers that ``indexer`` gives their packets."""
    context = stream.codec_context
    if context.width * context.height > limits.pixels:
        raise Rejected("frames too large")
    stop = time.process_time() + limits.cpu_seconds
    try:
        for number, packet in enumerate(container.demux(stream)):
            if packet.is_corrupt:
                raise Rejected("damaged packets")
            if packet.size:
                number_packet(packet, indexer.add(packet))
            yield from packet.decode()
            if number % _CLOCK_EVERY == 0 and time.process_time() > stop:
                raise Rejected("takes too long to decode")
    except (av.FFmpegError, ValueError) as error:
        raise Rejected("decode error") from error


def peek(data: bytes) -> Video:
    """What an index would know of a video or an image, without decoding all of it.

    Of a video the packets are counted and one frame is decoded, of an image the header is read.

    Raises:
        DecodeError: neither, damaged, or without frames or times.
    """
    if data.startswith(IMAGE_MAGIC):
        with _opened_image(data) as image:
            return Video(1, 0.0, image.height, image.width)
    times: list[tuple[int, int]] = []  # tick, ticks it lasts
    frame: VideoFrame | None = None
    empty = False
    try:
        with open_video(data) as (container, stream):
            base, mpeg4 = stream.time_base, stream.codec_context.name == "mpeg4"
            for packet in container.demux(stream):
                if frame is None:
                    frame = next(iter(packet.decode()), None)
                tick = packet.dts if packet.pts is None else packet.pts  # AVI has the former only
                if packet.size and tick is not None and not packet.is_discard:
                    times.append((tick, packet.duration or 0))
                    empty |= mpeg4 and packet.size <= _EMPTY_VOP
    except (av.FFmpegError, ValueError) as error:
        raise DecodeError(f"does not decode: {error}") from error
    count = len(times) - empty  # two frames in a packet, none in a later one: the last may lack
    if frame is None or base is None or count < 1:
        raise DecodeError("no frames")
    times.sort()
    rate, _ = _rate([tick for tick, _ in times], times[-1][1], base)
    width, height = upright_size(frame)
    return Video(count, rate, height, width)


def _rate(ticks: Sequence[int], last: int, base: Fraction) -> tuple[float, float]:
    """Frames a second, and seconds from the first frame's start to the last one's end.

    Args:
        ticks: when each frame is shown, in display order.
        last: ticks that the last one lasts; 0 = unknown.
        base: seconds a tick.

    Raises:
        Rejected: no time passes.
    """
    # Matroska gives the last frame no duration; then it lasts as long as most others.
    steps = [later - sooner for sooner, later in pairwise(ticks)]
    span = max(ticks) - min(ticks) + (last or median(steps or [0]))
    if span <= 0:
        raise Rejected("frames without a time")
    seconds = float(span * base)
    return round(len(ticks) / seconds, 6), round(seconds, 6)


def _check_size(data: bytes, limits: Limits) -> None:
    if len(data) > limits.bytes:
        raise Rejected("file too large")
    if not data:
        raise Rejected("empty file")


@contextmanager
def _opened_image(data: bytes) -> Iterator[Image.Image]:
    """Context: a JPEG or PNG, not decoded yet; what Pillow says against it is a rejection."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF; the size is judged by our own limit
            image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG"])
        yield image
    except Image.DecompressionBombError as error:
        raise Rejected("image too large") from error
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
        raise Rejected("damaged image") from error


def examine_image(data: bytes, limits: Limits = Limits()) -> Facts:
    """Decode a JPEG or PNG completely. Width and height are as stored (no EXIF rotation).

    Args:
        data: the whole file.
        limits: what it may cost.

    Raises:
        Rejected: it is damaged, of another format, or over a limit.
    """
    _check_size(data, limits)
    with _opened_image(data) as image:
        width, height = image.size
        if width * height > limits.pixels:
            raise Rejected("image too large")
        ext, codec = _IMAGES[image.format or ""]
        image.load()
    return Facts(ext, codec, 1, 0.0, width, height, 0.0)
