"""A video as a small silent clip for the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from sce_video.errors import first_line
from sce_video.video.decode import DecodeError, decode_frames
from sce_video.video.facts import Video

SECONDS = 3.0


class Size(NamedTuple):
    """What a clip may take."""

    side: int  # pixels of the short side, at most
    frames: int  # at most
    crf: int  # of x264


# 39 clips of UCF101 took 20 kB each in base64 as LARGE, 7 kB as SMALL.
LARGE, SMALL = Size(112, 24, 28), Size(80, 12, 32)

# Without a look at later frames: x264's reads memory that nothing wrote, so that the bytes would
# differ from call to call (seen at these sizes); it would save nothing here.
_X264 = "bframes=0:mbtree=0:weightp=0:scenecut=0:rc-lookahead=0"
_OPTIONS = {"preset": "slow", "threads": "1", "x264-params": _X264}


def thumbnail(data: bytes, video: Video, size: Size = LARGE) -> bytes:
    """An mp4 (h264) of the middle of a video: few frames, small.

    Args:
        data: the video file's bytes.
        video: what the index knows of it.
        size: how large and how good.

    Raises:
        DecodeError: it does not give the frames its index row promises, or no clip can be made.
    """
    numbers, rate = thumbnail_frames(video, size.frames)
    images = decode_frames(data, numbers)
    try:
        return encode_clip(images, rate, size)
    except (av.FFmpegError, ArithmeticError, ValueError) as error:  # of an odd rate or shape
        raise DecodeError(f"no clip can be made of it: {first_line(error)}") from error


def thumbnail_frames(video: Video, most: int) -> tuple[NDArray[np.int64], Fraction]:
    """Display numbers of the frames to show, ascending, and the rate that keeps their speed."""
    if video.fps <= 0:  # an image
        return np.zeros(1, np.int64), Fraction(1)
    span = min(video.frames, max(1, round(SECONDS * video.fps)))
    count = min(most, span)
    numbers = (video.frames - span) // 2 + np.arange(count, dtype=np.int64) * span // count
    return numbers, Fraction(count * video.fps / span).limit_denominator(1000)


def small_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Even height and width with a short side of at most ``side``, never larger."""
    scale = min(1.0, side / min(height, width))
    return max(2, int(height * scale) // 2 * 2), max(2, int(width * scale) // 2 * 2)


def encode_clip(images: Sequence[NDArray[np.uint8]], rate: Fraction, size: Size) -> bytes:
    """Encode RGB frames ``[H,W,3]`` at ``rate`` a second as a small mp4."""
    height, width = small_size(images[0].shape[0], images[0].shape[1], size.side)
    reformatter = VideoReformatter()
    buffer = io.BytesIO()
    # No faststart: it opens the output anew by its name, and a page has all bytes at once anyway.
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {**_OPTIONS, "crf": str(size.crf)}
        for image in images:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            small = reformatter.reformat(
                frame, width, height, "yuv420p", interpolation="AREA", threads=1
            )
            container.mux(stream.encode(small))
        container.mux(stream.encode())
    return buffer.getvalue()
