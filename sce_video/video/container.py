"""Opening video bytes safely with PyAV: which containers, which stream, which way is up.

Input is bytes, never a name, and no demuxer that reads playlists may open them: nothing outside of
a file can be reached through it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sce_video.video.errors import DecodeError

CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": "mp4",
    "matroska,webm": "mkv",
    "avi": "avi",
    "mpeg": "mpg",
    "mpegvideo": "mpg",
}
"""FFmpeg demuxers that may open a file -> extension in the shard. No playlist is among them."""

IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG")
"""How the bytes of a JPEG and of a PNG begin."""
MAX_PIXELS = 1 << 26
"""Of a frame; more is refused by decoders."""
_UNREADABLE = "no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"

# One reformatter, one thread: the default starts a pool of threads at each call.
_REFORMATTER = VideoReformatter()


@contextmanager
def open_video(data: bytes) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video file's bytes: its container and its main stream, set to decode in one thread.

    A frame's packet can be told by :func:`number_packet`.

    Raises:
        DecodeError: not a container of :data:`CONTAINERS`, no video stream, or an unknown codec;
            the message is the reason, the same for the same bytes.
    """
    options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "none"}
    try:
        container = av.open(io.BytesIO(data), "r", options=options)
    except (av.FFmpegError, ValueError) as error:
        raise DecodeError(_UNREADABLE) from error
    with container:
        stream = _main_stream(container)
        if stream.codec_context is None:
            raise DecodeError("unknown codec")
        stream.codec_context.thread_count = 1
        stream.codec_context.copy_opaque = True
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        yield container, stream


def _main_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is no cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    # An MP4 that lost its index opens, with one data stream.
    audio = bool(container.streams.video or container.streams.audio)
    raise DecodeError("no video stream" if audio else _UNREADABLE)


def number_packet(packet: Packet[Any], number: int) -> None:
    """Give a packet a number that its frame will have, too; see :func:`number_of`.

    PyAV keeps what is attached by its identity, and small integers are all the same object: what
    one frame frees, another would lose. So the number goes in an object of its own.
    """
    packet.opaque = [number]


def number_of(frame: VideoFrame) -> int:
    """The number of the packet that a frame was decoded from."""
    return cast("list[int]", frame.opaque)[0]


def upright_size(frame: VideoFrame) -> tuple[int, int]:
    """Width and height of a container's frame as a player shows it."""
    size = frame.width, frame.height
    return size[::-1] if frame.rotation % 180 else size


def upright_rgb(frame: VideoFrame, rotation: int) -> NDArray[np.uint8]:
    """RGB pixels ``[H,W,3]`` uint8 as a player shows them, a view of the converted plane.

    Args:
        frame: decoded, of any pixel format.
        rotation: degrees counter-clockwise, a multiple of 90 (``frame.rotation`` of a container's).
    """
    rgb = _REFORMATTER.reformat(frame, format="rgb24", threads=1)
    plane = rgb.planes[0]  # its lines are padded: a view, not to_ndarray's copy
    shape, strides = (rgb.height, rgb.width, 3), (plane.line_size, 3, 1)
    image: NDArray[np.uint8] = np.ndarray(shape, np.uint8, plane, 0, strides)  # type: ignore[arg-type]
    return np.rot90(image, rotation // 90) if rotation else image
