"""As much of a file as can be known at reading time, without decoding all of it."""

from __future__ import annotations

from av.video.frame import VideoFrame

from sce_video.video.bitstream import EMPTY_VOP
from sce_video.video.container import open_video
from sce_video.video.decode.image import opened_image
from sce_video.video.errors import DecodeError, decode_errors
from sce_video.video.facts import Video
from sce_video.video.kinds import IMAGE_MAGIC, kind_of, refusal_of_image
from sce_video.video.limits import DEFAULT_LIMITS
from sce_video.video.orientation import orientation_of
from sce_video.video.times import Stamp, display_ticks, mean_rate, stamp_of


def peek(data: bytes) -> Video:
    """What an index would know of a video or an image, without decoding all of it.

    Of a video the packets are counted and one frame is decoded, of an image the header is read.

    Raises:
        DecodeError: neither, damaged, without frames or times, or over a limit.
    """
    if data.startswith(IMAGE_MAGIC):
        with opened_image(data) as image:
            return Video(1, 0.0, image.height, image.width)
    if kind_of(data).endswith(" image"):  # some of which FFmpeg takes for a video
        raise DecodeError(refusal_of_image(data))
    stamps: list[Stamp] = []
    frame: VideoFrame | None = None
    empty = False
    with decode_errors(), open_video(data) as (container, stream):
        base, mpeg4 = stream.time_base, stream.codec_context.name == "mpeg4"
        stated = stream.average_rate
        for packet in container.demux(stream):
            if frame is None:
                frame = next(iter(packet.decode()), None)
            if packet.size and not packet.is_discard:
                stamps.append(stamp_of(packet))
                if len(stamps) > DEFAULT_LIMITS.frames:
                    raise DecodeError("too many frames")
                empty |= mpeg4 and packet.size <= EMPTY_VOP
    count = len(stamps) - empty  # two frames in a packet, none in a later one: the last may lack
    if frame is None or base is None or count < 1:
        raise DecodeError("no frames")
    with decode_errors():
        stamps.sort(key=lambda stamp: stamp.shown or 0)  # into display order, if it is known
        rate, _ = mean_rate(display_ticks(stamps, stated, base), stamps[-1].lasts, base)
        width, height = orientation_of(frame).size(frame.width, frame.height)
    return Video(count, rate, height, width)
