"""Videos that a bench makes when it is given none."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def make_videos(folder: Path, count: int, seconds: int = 10) -> None:
    """Write ``count`` H.264 videos, 340x256 at 25 a second: drifting blobs under light noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:256, 0:340]
    for number in range(count):
        places, speed = rng.uniform(0, 340, (6, 2)), rng.uniform(-3, 3, (6, 2))
        colours, grain = rng.uniform(60, 255, (6, 3)), rng.normal(0, 4, (4, 256, 340, 1))
        with av.open(str(folder / f"{number:04d}.mp4"), "w") as container:
            stream = container.add_stream("libx264", 25, {"preset": "veryfast", "crf": "23"})
            stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
            for t in range(25 * seconds):
                image = np.zeros((256, 340, 3))
                for (px, py), (vx, vy), colour in zip(places, speed, colours, strict=True):
                    distance = (x - (px + vx * t) % 340) ** 2 + (y - (py + vy * t) % 256) ** 2
                    image += np.exp(-distance / 1200)[..., None] * colour
                pixels = np.clip(image + grain[t % 4], 0, 255).astype(np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
