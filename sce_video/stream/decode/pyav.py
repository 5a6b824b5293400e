"""Frames by display number with PyAV, in one pass from the start of the video."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from sce_video.errors import SceVideoError
from sce_video.shard.probe import Rejected, main_stream

# One reformatter, one thread: the default starts a pool of threads at each call.
_REFORMATTER = VideoReformatter()


class DecodeError(SceVideoError):
    """A video that does not give the frames its index row promises."""


def decode_frames(data: bytes, numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
    """Decode frames by display number.

    Args:
        data: a video file's bytes.
        numbers: display numbers ``[n]``, strictly ascending, from 0.

    Returns:
        RGB frames ``[n,H,W,3]`` uint8, turned upright if the file says so.

    Raises:
        DecodeError: not a video, damaged, of changing size, or with too few frames.
    """
    wanted = [int(number) for number in numbers]
    images: list[NDArray[np.uint8]] = []
    try:
        with av.open(io.BytesIO(data), "r") as container:
            stream = main_stream(container)
            stream.codec_context.thread_count = 1
            for number, frame in enumerate(container.decode(stream)):
                if frame.is_corrupt:
                    raise DecodeError(f"frame {number} is corrupt")
                if number == wanted[len(images)]:
                    images.append(_upright(frame))
                    if len(images) == len(wanted):
                        break
    except Rejected as error:
        raise DecodeError(str(error)) from error
    except (av.FFmpegError, ValueError) as error:
        raise DecodeError(f"does not decode: {error}") from error
    if len(images) < len(wanted):
        raise DecodeError(f"ends before frame {wanted[len(images)]}")
    if len({image.shape for image in images}) > 1:
        raise DecodeError("the size of its frames changes")
    return np.stack(images)


def _upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """RGB pixels ``[H,W,3]`` as a player shows them."""
    rgb = _REFORMATTER.reformat(frame, format="rgb24", threads=1)
    image = rgb.to_ndarray().astype(np.uint8, copy=False)
    return np.rot90(image, frame.rotation // 90) if frame.rotation else image
