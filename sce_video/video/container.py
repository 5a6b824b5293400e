"""Opening video bytes safely with PyAV: which containers, which stream, how frames become RGB.

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

from sce_video.video.claims import check_claims
from sce_video.video.errors import DecodeError, decode_errors
from sce_video.video.limits import DEFAULT_LIMITS, Limits, check_bytes, check_pixels
from sce_video.video.orientation import Orientation

CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": "mp4",
    "matroska,webm": "mkv",
    "avi": "avi",
    "mpeg": "mpg",
    "mpegvideo": "mpg",
}
"""FFmpeg demuxers that may open a file -> extension in the shard. No playlist is among them."""

_UNREADABLE = "no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"

# One reformatter, one thread: the default starts a pool of threads at each call.
_REFORMATTER = VideoReformatter()


@contextmanager
def open_video(
    data: bytes, limits: Limits = DEFAULT_LIMITS
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Context: a video file's container and its main stream, set to decode in one thread.

    The main stream is the default one, else the largest. A frame's packet can be told by
    :func:`number_packet`.

    Raises:
        DecodeError: not a container of :data:`CONTAINERS`, no video stream, an unknown codec, or
            over a limit; the message is the reason, the same for the same bytes.
    """
    check_bytes(data, limits)
    check_claims(data)
    bounds = {"max_pixels": str(limits.pixels)}
    options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "none", **bounds}
    with decode_errors(_UNREADABLE):
        container = av.open(io.BytesIO(data), "r", options=options, metadata_errors="replace")
    with container:
        with decode_errors():
            stream = _main_stream(container)
            context = stream.codec_context
            if context is None:
                raise DecodeError("unknown codec")
            if not context.width * context.height:  # so FFmpeg leaves what is over the bound
                raise DecodeError("frames too large, or of no known size")
            check_pixels(context.width, context.height, limits)
            context.thread_count = 1
            context.copy_opaque = True
            context.options = bounds
        yield container, stream


def _main_stream(container: InputContainer) -> VideoStream:
    """The default video stream, else the largest, as ffmpeg and players choose; no cover picture.

    Of equals it is the first.
    """
    if shown := video_streams(container):
        return max(shown, key=lambda stream: (_is_default(stream), _pixels(stream)))
    # An MP4 that lost its index opens, with one data stream.
    audio = bool(container.streams.video or container.streams.audio)
    raise DecodeError("no video stream" if audio else _UNREADABLE)


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Video streams, without cover pictures and the like."""
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & pictures]


def _is_default(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.default)


def _pixels(stream: VideoStream) -> int:
    return stream.width * stream.height if stream.codec_context else 0  # a codec nobody knows


def number_packet(packet: Packet[Any], number: int) -> None:
    """Give a packet a number that its frame will have, too; see :func:`number_of`.

    PyAV keeps what is attached by its identity, and small integers are all the same object: what
    one frame frees, another would lose. So the number goes in an object of its own.
    """
    packet.opaque = [number]


def number_of(frame: VideoFrame) -> int:
    """The number of the packet that a frame was decoded from."""
    return cast("list[int]", frame.opaque)[0]


def upright_rgb(frame: VideoFrame, orientation: Orientation) -> NDArray[np.uint8]:
    """RGB pixels ``[H,W,3]`` uint8 as a player shows them, a view of the converted plane.

    Args:
        frame: decoded, of any pixel format.
        orientation: how it becomes upright (of a container's frame ``orientation_of``).

    Raises:
        DecodeError: its colours cannot be converted.
    """
    try:
        rgb = _REFORMATTER.reformat(frame, format="rgb24", threads=1)
    except (av.FFmpegError, ValueError, OverflowError) as error:
        # Those of H.273 that are no linear YUV (YCgCo, constant luminance, ICtCp) or say nothing.
        what = f"matrix coefficients {int(frame.colorspace)}"
        raise DecodeError(f"colours that cannot be converted ({what})") from error
    plane = rgb.planes[0]  # its lines are padded: a view, not to_ndarray's copy
    shape, strides = (rgb.height, rgb.width, 3), (plane.line_size, 3, 1)
    image: NDArray[np.uint8] = np.ndarray(shape, np.uint8, plane, 0, strides)  # type: ignore[arg-type]
    return orientation.apply(image)
