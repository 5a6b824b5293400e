"""As much of a file as can be known at reading time, without decoding all of it."""

from __future__ import annotations

import av
from av.video.frame import VideoFrame

from sce_video.video.bitstream import EMPTY_VOP
from sce_video.video.container import IMAGE_MAGIC, open_video
from sce_video.video.errors import DecodeError
from sce_video.video.examine_image import opened_image
from sce_video.video.facts import Video
from sce_video.video.orientation import orientation_of
from sce_video.video.times import mean_rate, stamp_of


def peek(data: bytes) -> Video:
    """What an index would know of a video or an image, without decoding all of it.

    Of a video the packets are counted and one frame is decoded, of an image the header is read.

    Raises:
        DecodeError: neither, damaged, or without frames or times.
    """
    if data.startswith(IMAGE_MAGIC):
        with opened_image(data) as image:
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
                shown, sent, lasts = stamp_of(packet)
                tick = sent if shown is None else shown
                if packet.size and tick is not None and not packet.is_discard:
                    times.append((tick, lasts))
                    empty |= mpeg4 and packet.size <= EMPTY_VOP
    except (av.FFmpegError, ValueError) as error:
        raise DecodeError(f"does not decode: {error}") from error
    count = len(times) - empty  # two frames in a packet, none in a later one: the last may lack
    if frame is None or base is None or count < 1:
        raise DecodeError("no frames")
    times.sort()
    rate, _ = mean_rate([tick for tick, _ in times], times[-1][1], base)
    width, height = orientation_of(frame).size(frame.width, frame.height)
    return Video(count, rate, height, width)
