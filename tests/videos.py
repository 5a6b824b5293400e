"""Videos made by the tests."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray


def moving_square(
    frames: int, height: int = 48, width: int = 64, seed: int = 0
) -> NDArray[np.uint8]:
    """Frames ``[T,H,W,3]`` uint8: a bright square that moves over patches of random colours."""
    rng = np.random.default_rng(seed)
    patches = rng.uniform(0, 200, (-(-height // 8), -(-width // 8), 3)).repeat(8, 0).repeat(8, 1)
    video = np.repeat(patches[None, :height, :width], frames, 0).astype(np.uint8)
    for t in range(frames):
        x, y = (3 * t + seed) % (width - 12), (2 * t + 3 * seed) % (height - 12)
        video[t, y : y + 12, x : x + 12] = rng.integers(180, 255, 3)
    return video


def write_video(
    path: Path, video: NDArray[np.uint8], *, fps: int = 25, codec: str = "libx264", crf: int = 18
) -> Path:
    """Encode ``video`` (uint8 ``[T,H,W,3]``, even sides) into the container that ``path`` names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = cast("VideoStream", container.add_stream(codec, rate=fps))
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": str(crf), "threads": "1", "x264-params": "asm=SSE4.2"}
        for image in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
