"""The same clips by other libraries, each by the calls that its own documentation shows.

All in one thread, of a file's bytes in memory, to RGB uint8 of whole frames.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from importlib import import_module
from typing import Any

import av
import torch

from sce_video.stream.clips import Indices

Peer = Callable[[bytes, Sequence[Indices], float], Any]
"""(file, display numbers of each clip, frame rate) -> frames."""


def pytorchvideo(data: bytes, clips: Sequence[Indices], fps: float) -> list[torch.Tensor]:
    """What the published code of SCE does: float32 ``[3,T,H,W]``, subsampled in time."""
    from pytorchvideo.data.encoded_video import select_video_class

    video = select_video_class("pyav")(io.BytesIO(data), decode_audio=False)
    found = []
    for clip in clips:
        ends = (Fraction(int(number)) / Fraction(fps) for number in (clip[0], clip[-1] + 1))
        frames = video.get_clip(*ends)["video"]
        # UniformTemporalSubsample; pytorchvideo.transforms needs an older torchvision.
        chosen = torch.linspace(0, frames.shape[1] - 1, len(clip)).long()
        found.append(torch.index_select(frames, 1, chosen))
    video.close()
    return found


def decord(data: bytes, clips: Sequence[Indices], fps: float) -> Any:
    """One ``get_batch`` for all clips."""
    from decord import VideoReader

    return VideoReader(io.BytesIO(data), num_threads=1).get_batch(_all(clips)).asnumpy()


def torchcodec(mode: str) -> Peer:
    """One ``get_frames_at`` for all clips, with seeking ``approximate`` or ``exact``."""

    def decode(data: bytes, clips: Sequence[Indices], fps: float) -> Any:
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(
            data,
            seek_mode=mode,  # type: ignore[arg-type]
            num_ffmpeg_threads=1,
            dimension_order="NHWC",
        )
        return decoder.get_frames_at(_all(clips)).data

    return decode


def pyav_pass(data: bytes, clips: Sequence[Indices], fps: float) -> list[Any]:
    """One pass from the start of the file to the last frame of all clips."""
    wanted = set(_all(clips))
    images = []
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                images.append(frame.to_ndarray(format="rgb24", threads=1))
                if len(images) == len(wanted):
                    break
    return images


def pyav_seek(data: bytes, clips: Sequence[Indices], fps: float) -> list[Any]:
    """A seek to the key frame before each clip, and from there on."""
    images = []
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        base, start = stream.time_base or Fraction(1), stream.start_time or 0
        for clip in clips:
            wanted = set(clip.tolist())
            container.seek(start + int(clip[0] / fps / base), stream=stream)
            for frame in container.decode(stream):
                number = round(((frame.pts or 0) - start) * base * Fraction(fps))
                if number in wanted:
                    images.append(frame.to_ndarray(format="rgb24", threads=1))
                if number >= clip[-1]:
                    break
    return images


def _all(clips: Sequence[Indices]) -> list[int]:
    return sorted({int(number) for clip in clips for number in clip})


_PEERS: dict[str, tuple[str, Peer]] = {
    "pytorchvideo EncodedVideo": ("pytorchvideo.data.encoded_video", pytorchvideo),
    "decord get_batch": ("decord", decord),
    "torchcodec, approximate": ("torchcodec.decoders", torchcodec("approximate")),
    "torchcodec, exact": ("torchcodec.decoders", torchcodec("exact")),
    "PyAV, one pass": ("av", pyav_pass),
    "PyAV, a seek a clip": ("av", pyav_seek),
}


def find_peers() -> tuple[dict[str, Peer], dict[str, str]]:
    """Peers that load, by name, and why the others do not, by module."""
    found, missing = {}, {}
    for name, (module, peer) in _PEERS.items():
        reason = why_missing(module)
        if reason is None:
            found[name] = peer
        else:
            missing[module.partition(".")[0]] = reason
    return found, missing


def why_missing(module: str) -> str | None:
    """The first line of what importing ``module`` raises; None = it loads."""
    try:
        import_module(module)
    except (ImportError, RuntimeError, OSError) as error:
        return next(iter(str(error).strip().splitlines()), type(error).__name__)
    return None
