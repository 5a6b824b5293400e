"""``--encode layered``: transcode to H.264 in which a clip costs few packets.

25 frames a second, a key frame every 32, and between them groups of eight in strict layers: an I or
P picture, one B picture that only its own group refers to, six that nobody refers to. A clip on the
eighth frames needs no B picture at all. ``tune fastdecode`` trades bytes for decoding time.
"""

from __future__ import annotations

import io
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Literal, cast

import av
from av.filter import Graph
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from sce_video.video.container import open_video
from sce_video.video.examine import examine_video
from sce_video.video.facts import Facts, Rejected, rejections
from sce_video.video.limits import DEFAULT_LIMITS, Limits
from sce_video.video.orientation import UPRIGHT, orientation_of

FPS = 25
SLOWER = 8
"""How many times the CPU time of a decode an encode may take, for limits."""
Quality = Literal["high", "fast"]
_PRESETS: dict[Quality, tuple[str, int]] = {"high": ("medium", 23), "fast": ("veryfast", 21)}
_GROUPS = (
    "keyint=32:min-keyint=32:scenecut=0:open-gop=0:bframes=7:b-adapt=0:b-pyramid=strict:weightp=0"
)
STEADY = "asm=SSE4.2" if platform.machine() in ("x86_64", "AMD64") else ""
"""x264's AVX-512 code gives other bytes each time; with this it gives the same ones, no slower."""
_LONG_AGO = -(1 << 63)  # before any tick
# The same pixels whichever vector instructions the machine has.
_SCALE = "bicubic+accurate_rnd+full_chroma_int+bitexact"


@dataclass(frozen=True)
class Encoding:
    """Settings of one transcoded set."""

    short_side: int = 256  # pixels; smaller videos keep their size
    quality: Quality = "high"

    def describe(self) -> dict[str, str | int | float | bool]:
        """What goes into the manifest and into each sample's json."""
        preset, crf = _PRESETS[self.quality]
        return {
            "mode": "layered",
            **asdict(self),
            "codec": "libx264",
            "preset": preset,
            "crf": crf,
            "tune": "fastdecode",
            "fps": FPS,
            "x264": ":".join(filter(None, (_GROUPS, STEADY))),
        }


def encoder_options(encoding: Encoding) -> dict[str, str]:
    """Options of libx264."""
    described = encoding.describe()
    options = {name: str(described[name]) for name in ("preset", "crf", "tune")}
    return {**options, "threads": "1", "x264-params": str(described["x264"])}


class LayeredEncoder:
    """Takes the decoded frames of one video; :meth:`finish` gives the transcoded file.

    Each frame is shown from the nearest 25th of a second on, counted from the first one, until the
    next; of frames nearest to the same one the first is taken.

    Args:
        encoding: settings.
        max_frames: most frames of the result (a gap in a video's times is filled with frames).
    """

    def __init__(self, encoding: Encoding, max_frames: int = DEFAULT_LIMITS.frames) -> None:
        self._encoding = encoding
        self._max_frames = max_frames
        self._ordered, self._tick = True, _LONG_AGO
        self._open_file()

    def _open_file(self) -> None:
        """Begin with an empty file."""
        self._file = io.BytesIO()
        self._container = av.open(self._file, "w", format="mp4", options={"fflags": "+bitexact"})
        self._stream: VideoStream | None = None
        self._graph: Graph | None = None
        self._look: tuple[object, ...] = ()  # format and range of the frames that it takes
        self._start = 0
        self._last: VideoFrame | None = None
        self._count = 0

    def add(self, frame: VideoFrame, tick: int | None) -> None:
        """Encode a frame that is shown at ``tick`` of its time base.

        Where ticks lack or run backwards nothing is made of it until :meth:`finish`, and where they
        all are one it is done again.

        Raises:
            Rejected: the filters or the encoder take no such frames, or it would be too many.
        """
        self._ordered &= tick is not None and tick >= self._tick
        if self._ordered and tick is not None:
            self._tick = tick
            self._add(frame, tick)

    def finish(self, data: bytes, raw: Facts) -> tuple[bytes, Facts]:
        """The file and what it is; all frames were added.

        Args:
            data: the file they are from.
            raw: what it was found to be.

        Raises:
            Rejected: as :meth:`add`.
        """
        with rejections("does not encode"):
            if not self._ordered or (self._start, self._tick) != (raw.ticks[0], raw.ticks[-1]):
                self._start_again(data, raw.ticks)
            stream = cast("VideoStream", self._stream)
            self._repeat(min(_nearest(Fraction(raw.duration)), self._max_frames))
            self._container.mux(stream.encode(None))
            self._container.close()
        made = self._file.getvalue()
        # Reading must get from it what a full decode gets.
        return made, examine_video(made, Limits(min_frames=1), strict=True)

    def _start_again(self, data: bytes, ticks: Sequence[int]) -> None:
        """Encode the frames of ``data`` at other times than its own."""
        self.close()
        self._open_file()
        with open_video(data) as (container, stream):
            for frame, tick in zip(container.decode(stream), ticks, strict=True):
                self._add(frame, tick)

    def _add(self, frame: VideoFrame, tick: int) -> None:
        base = frame.time_base or Fraction(1)
        with rejections("does not encode"):
            if self._stream is None:
                self._start = tick
            if (look := (frame.format.name, frame.color_range)) != self._look:
                self._look, self._graph = look, _filters(frame, self._encoding.short_side)
            number = _nearest((tick - self._start) * base)
            if number >= self._max_frames:
                raise Rejected("too many frames")
            if number >= self._count:
                self._repeat(number)
                if self._graph is not None:
                    self._graph.vpush(frame)
                    frame = self._graph.vpull()
                self._encode(frame)

    def close(self) -> None:
        """Free what an unfinished encode holds."""
        self._container.close()

    def _repeat(self, until: int) -> None:
        """Show the last frame up to frame number ``until``."""
        while self._count < until:
            self._encode(cast("VideoFrame", self._last))

    def _encode(self, frame: VideoFrame) -> None:
        if self._stream is None:
            self._stream = self._open(frame)
        frame.pts, frame.time_base = self._count, Fraction(1, FPS)
        frame.pict_type = PictureType.NONE  # else x264 repeats the types of the source
        self._container.mux(self._stream.encode(frame))
        self._last, self._count = frame, self._count + 1

    def _open(self, frame: VideoFrame) -> VideoStream:
        options = encoder_options(self._encoding)
        stream = self._container.add_stream("libx264", FPS, options)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, FPS)
        context.thread_count = 1
        context.color_range, context.colorspace = ColorRange.MPEG, frame.colorspace
        context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
        return stream


def _nearest(seconds: Fraction) -> int:
    """Number of the frame whose time is nearest; of two the later."""
    return math.floor(seconds * FPS + Fraction(1, 2))


def _filters(frame: VideoFrame, short_side: int) -> Graph | None:
    """Upright, at most ``short_side`` on the short side, even, 8 bit 4:2:0; None = it is so."""
    orientation = orientation_of(frame)
    width, height = orientation.size(frame.width, frame.height)
    factor = min(1.0, short_side / min(width, height))
    width, height = (max(2, 2 * round(side * factor / 2)) for side in (width, height))
    as_wanted = (frame.width, frame.height, frame.format.name) == (width, height, "yuv420p")
    if as_wanted and orientation == UPRIGHT and frame.color_range != ColorRange.JPEG:
        return None
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    scale = f"{width}:{height}:flags={_SCALE}:out_range=tv"
    steps = [*orientation.filters, ("scale", scale)]
    steps += [("format", "pix_fmts=yuv420p"), ("buffersink", None)]
    graph.link_nodes(source, *(graph.add(*step) for step in steps)).configure()
    return graph
