"""The same clips by other libraries, each by the calls that its own documentation shows.

All in one thread, of a file's bytes in memory, to RGB uint8 of whole frames.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch

from sce_video.errors import first_line
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

    return VideoReader(io.BytesIO(data), num_threads=1).get_batch(all_numbers(clips)).asnumpy()


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
        return decoder.get_frames_at(all_numbers(clips)).data

    return decode


def pyav_pass(data: bytes, clips: Sequence[Indices], fps: float) -> list[Any]:
    """One pass from the start of the file to the last frame of all clips."""
    wanted = set(all_numbers(clips))
    images = []
    with av.open(io.BytesIO(data), "r") as container:
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
    with av.open(io.BytesIO(data), "r") as container:
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


def all_numbers(clips: Sequence[Indices]) -> list[int]:
    """Display numbers of all clips, ascending, each once."""
    return sorted({int(number) for clip in clips for number in clip})


PEERS: dict[str, Peer] = {
    "pytorchvideo EncodedVideo": pytorchvideo,
    "decord get_batch": decord,
    "torchcodec, approximate": torchcodec("approximate"),
    "torchcodec, exact": torchcodec("exact"),
    "PyAV, one pass": pyav_pass,
    "PyAV, a seek a clip": pyav_seek,
}


def find_peers() -> tuple[dict[str, Peer], dict[str, str]]:
    """Peers that work, by name, and why the others do not, tried on a tiny video."""
    found, missing = {}, {}
    data, clips = _tiny(), [np.array([0, 2]), np.array([1, 3])]
    for name, peer in PEERS.items():
        try:
            peer(data, clips, 25.0)
            found[name] = peer
        except Exception as error:  # noqa: BLE001  (how a library fails to load is its own affair)
            missing[name] = reason(error)
    return found, missing


def reason(error: Exception) -> str:
    """Why a library does not work, in one line."""
    if "Could not load libtorchcodec" in str(error):
        return "FFmpeg's shared libraries are not found (apt install ffmpeg, or LD_LIBRARY_PATH)"
    return first_line(error)


def _tiny() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for level in range(8):
            image = np.full((64, 64, 3), 30 * level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()
