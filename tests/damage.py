"""Whole videos with sound in many containers, and what broken downloads make of them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sce_video.video.examine import examine_video
from sce_video.video.facts import Rejected
from tests.videos import moving_square

_RATE = 48_000

Maker = Callable[[Path], Path]


def write_with_sound(
    path: Path,
    codec: str = "libx264",
    sound: str = "aac",
    *,
    pix_fmt: str = "yuv420p",
    frames: int = 75,
    muxer: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """A video of 25 frames a second with grain, beside noise as sound (none with ``sound=""``)."""
    if codec == "libx264":
        options = {"crf": "15", "threads": "1", "x264-params": "asm=SSE4.2:keyint=25", **options}
    rng = np.random.default_rng(0)
    step = 1152 if sound.startswith("mp") else 960 if "opus" in sound else 1024
    noise = rng.normal(0, 0.1, (1, 2 * _RATE * frames // 25)).astype(np.float32)
    said = 0
    with av.open(str(path), "w", options=muxer or {}) as container:
        video = cast("VideoStream", container.add_stream(codec, rate=25, options=options))
        video.width, video.height, video.pix_fmt = 128, 96, pix_fmt
        voice = None
        if sound:
            voice = cast("AudioStream", container.add_stream(sound, rate=_RATE, layout="mono"))
            voice.bit_rate = 64_000
        for number, image in enumerate(moving_square(frames, 96, 128)):
            grain = rng.integers(-8, 8, image.shape)
            image = np.clip(image + grain, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
            while voice is not None and said < (number + 1) * _RATE // 25:
                part = av.AudioFrame.from_ndarray(noise[:, said : said + step], "fltp", "mono")
                part.sample_rate, part.pts, part.time_base = _RATE, said, Fraction(1, _RATE)
                container.mux(voice.encode(_as(part, voice)))
                said += step
        container.mux(video.encode(None))
        if voice is not None:
            container.mux(voice.encode(None))
    return path


def _as(frame: av.AudioFrame, stream: AudioStream) -> av.AudioFrame:
    """``frame`` in the sample format that an encoder wants."""
    wanted = stream.codec_context.format.name
    if wanted == "fltp":
        return frame
    resampler = av.AudioResampler(wanted, "mono", _RATE)
    made = resampler.resample(frame)[0]
    made.pts, made.time_base = frame.pts, frame.time_base
    return made


def _made(name: str, codec: str = "libx264", sound: str = "aac", **settings: Any) -> Maker:
    return lambda folder: write_with_sound(folder / name, codec, sound, **settings)


_FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"
_FRONT = {"movflags": "faststart"}
_HEVC = {"crf": "15", "x265-params": "keyint=25:log-level=0"}
_VP9 = {"b": "400k", "cpu-used": "8", "deadline": "realtime", "g": "25"}

WHOLE: dict[str, Maker] = {
    "h264 mp4": _made("v.mp4"),
    "h264 mp4, moov in front": _made("v.mp4", muxer=_FRONT),
    "h264 mov, pcm": _made("v.mov", sound="pcm_s16le", muxer=_FRONT),
    "h264 fragmented": _made("v.mp4", muxer={"movflags": _FRAGMENTS}),
    "h264 fragmented, sidx": _made("v.mp4", muxer={"movflags": _FRAGMENTS + "+global_sidx"}),
    "h264 mkv": _made("v.mkv"),
    "h264 avi": _made("v.avi", sound="mp2", **{"x264-params": "asm=SSE4.2:annexb=1:bframes=0"}),
    "hevc mp4": _made("v.mp4", "libx265", muxer=_FRONT, **_HEVC),
    "hevc mkv": _made("v.mkv", "libx265", **_HEVC),
    "vp9 webm": _made("v.webm", "libvpx-vp9", "libopus", **_VP9),
    "vp9 mp4": _made("v.mp4", "libvpx-vp9", muxer=_FRONT, **_VP9),
    "vp8 webm": _made("v.webm", "libvpx", "libopus", b="400k", g="25"),
    "av1 webm": _made("v.webm", "libsvtav1", "libopus", preset="10", crf="20", g="25"),
    "av1 mp4": _made("v.mp4", "libsvtav1", preset="10", crf="20", g="25", muxer=_FRONT),
    "mpeg-4 avi": _made("v.avi", "mpeg4", "mp2", qscale="3", g="25"),
    "mpeg-4 mp4": _made("v.mp4", "mpeg4", qscale="3", g="25", muxer=_FRONT),
    "mpeg-1 mpg": _made("v.mpg", "mpeg1video", "mp2", qscale="3", g="25"),
    "mpeg-2 mkv": _made("v.mkv", "mpeg2video", "mp2", qscale="3", g="25"),
    "mpeg-2 mov": _made("v.mov", "mpeg2video", qscale="3", g="25", muxer=_FRONT),
    "motion jpeg avi": _made("v.avi", "mjpeg", "mp2", pix_fmt="yuvj420p", qscale="3"),
    "motion jpeg mov": _made("v.mov", "mjpeg", pix_fmt="yuvj420p", qscale="3", muxer=_FRONT),
    "ffv1 mkv": _made("v.mkv", "ffv1", "flac"),
    "raw avi": _made("v.avi", "rawvideo", "mp2"),
    "mpeg-1 bare": _made("v.m1v", "mpeg1video", "", qscale="3", g="25"),
}
"""Name -> what makes it in a folder."""


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """A download that broke off."""
    return data[: rng.integers(len(data) // 10, len(data))]


def zero_tail(data: bytes, rng: np.random.Generator) -> bytes:
    """The same where room for all of it was set aside before."""
    return cut(data, rng).ljust(len(data), b"\0")


def hole(data: bytes, rng: np.random.Generator, size: int = 200) -> bytes:
    """A piece in the middle never came."""
    at = int(rng.integers(len(data) // 10, len(data) - size))
    return data[:at] + bytes(size) + data[at + size :]


DAMAGE: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "cut": cut,
    "zero tail": zero_tail,
    "hole": hole,
}


def verdict(data: bytes) -> tuple[str, int]:
    """The reason for which a file is refused, ``""`` = it passes; and a checksum of its frames."""
    seen = 0

    def add(frame: VideoFrame, tick: int | None) -> None:
        nonlocal seen
        for plane in frame.planes:
            seen = zlib.crc32(plane, seen)

    try:
        examine_video(data, sink=add)
    except Rejected as rejected:
        return str(rejected), 0
    return "", seen
