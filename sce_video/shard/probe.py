"""Decode one video or image completely, once, and say what it is or why it is rejected.

Decoders hide damage: a player shows grey blocks where a file is broken and goes on. Training would
learn them. So everything is decoded here, where there is time, and what does not decode cleanly
never reaches a shard. Input is bytes, never a name: no protocol can be reached through a file.
"""

from __future__ import annotations

import io
import time
import warnings
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import av
from PIL import Image

from sce_video.shard.truncation import is_cut

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": "mp4",
    "matroska,webm": "mkv",
    "avi": "avi",
    "mpeg": "mpg",
    "mpegvideo": "mpg",
}
"""FFmpeg demuxers that may open a file -> extension in the shard. No playlist is among them."""

_IMAGE_FORMATS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png"}
"""Pillow's names; MPO is a JPEG with a second picture behind it, opened as JPEG."""
_ATTACHED_PICTURE = 1024
"""AV_DISPOSITION_ATTACHED_PIC: a cover picture, which poses as a video stream."""


@dataclass(frozen=True)
class Limits:
    """What one file may cost. All but the CPU time are properties of the file alone."""

    bytes: int = 1 << 30
    frames: int = 500_000
    pixels: int = 1 << 26
    """Per frame."""
    cpu_seconds: int = 1_200
    min_frames: int = 2


@dataclass(frozen=True, slots=True)
class Probe:
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


class Rejected(Exception):  # noqa: N818 (a verdict, not an error)
    """The file does not qualify; the message is the reason, the same for the same bytes."""


def probe_video(data: bytes, limits: Limits = Limits()) -> Probe:
    """Decode every frame of a video.

    Args:
        data: the whole file.
        limits: what it may cost.

    Raises:
        Rejected: it is damaged, no video, or over a limit.
    """
    if len(data) > limits.bytes:
        raise Rejected("file too large")
    if not data:
        raise Rejected("empty file")
    if is_cut(data):
        raise Rejected("cut off")
    options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "none"}
    try:
        container = av.open(io.BytesIO(data), "r", options=options)
    except (av.FFmpegError, ValueError) as error:
        raise Rejected("not a readable video container") from error
    with container:
        # An MP4 that lost its index opens, with one data stream.
        if not (container.streams.video or container.streams.audio):
            raise Rejected("not a readable video container")
        ext = CONTAINERS[container.format.name]
        if ext == "mkv" and b"webm" in data[:64]:  # the DocType of the EBML header
            ext = "webm"
        stream = main_stream(container)
        frames = _decode(container, stream, limits)
        return frames.probe(ext, stream.codec_context.name)


def main_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is no cover picture.

    Raises:
        Rejected: there is none.
    """
    for stream in container.streams.video:
        if not int(stream.disposition) & _ATTACHED_PICTURE:
            return stream
    raise Rejected("no video stream")


class _Frames:
    """Accumulates what the decoded frames have in common."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.last_duration = 0.0
        self.size = (0, 0)
        self.rotation = 0

    def add(self, frame: VideoFrame) -> None:
        size = (frame.width, frame.height)
        if not self.times:
            self.size, self.rotation = size, int(frame.rotation)
        if frame.is_corrupt:
            raise Rejected("damaged frames")
        if size != self.size:
            raise Rejected("frame size changes")
        if frame.time is None:
            raise Rejected("frames without a time")
        self.times.append(frame.time)
        if frame.duration and frame.time_base is not None:
            self.last_duration = float(frame.duration * frame.time_base)

    def probe(self, ext: str, codec: str) -> Probe:
        span = max(self.times) - min(self.times)
        steps = [b - a for a, b in zip(self.times, self.times[1:], strict=False)]
        # Matroska gives the last frame no duration; then it lasts as long as most others.
        duration = span + (self.last_duration or median(steps or [0.0]))
        if span < 0 or duration <= 0:
            raise Rejected("frames without a time")
        width, height = self.size if self.rotation % 180 == 0 else self.size[::-1]
        count = len(self.times)
        return Probe(
            ext, codec, count, round(count / duration, 6), width, height, round(duration, 6)
        )


def _decode(container: InputContainer, stream: VideoStream, limits: Limits) -> _Frames:
    context = stream.codec_context
    if context is None:
        raise Rejected("unknown codec")
    if context.width * context.height > limits.pixels:
        raise Rejected("frames too large")
    context.thread_count = 1
    context.options = {"max_pixels": str(limits.pixels)}
    stop = time.process_time() + limits.cpu_seconds
    frames = _Frames()
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise Rejected("damaged packets")
            for frame in packet.decode():
                frames.add(frame)
            if len(frames.times) > limits.frames:
                raise Rejected("too many frames")
            if time.process_time() > stop:
                raise Rejected("takes too long to decode")
    except (av.FFmpegError, ValueError) as error:
        raise Rejected("decode error") from error
    if not frames.times:
        raise Rejected("no frames")
    if len(frames.times) < limits.min_frames:
        raise Rejected("too short")
    return frames


def probe_image(data: bytes, limits: Limits = Limits()) -> Probe:
    """Decode a JPEG or PNG completely. Width and height are as stored (no EXIF rotation).

    Args:
        data: the whole file.
        limits: what it may cost.

    Raises:
        Rejected: it is damaged, of another format, or over a limit.
    """
    if len(data) > limits.bytes:
        raise Rejected("file too large")
    if not data:
        raise Rejected("empty file")
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
    return Probe(_IMAGE_FORMATS[form], codec, 1, 0.0, width, height, 0.0)
