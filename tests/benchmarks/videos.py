"""Videos that a bench makes when it is given none."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH, FPS = 256, 340, 25
_CUT = 0.6  # place in the video at which every other one changes its scene
_GRAIN = 0.7  # grey levels; cameras' noise is mostly gone in videos compressed before

Pixels = NDArray[np.float32]


def make_videos(folder: Path, count: int, seconds: int = 10) -> None:
    """Write ``count`` H.264 videos, 340x256 at 25 a second, as x264 makes them by default.

    Textured scenes under an unsteady camera, with textured things that cross them and light noise:
    about 0.25 Mbit/s at crf 22. Clips of Kinetics take 0.1 to 0.8 at this size, 0.29 on average.
    """
    for number in range(count):
        rng = np.random.default_rng(number)
        frames = FPS * seconds
        cut = round(_CUT * frames) if number % 2 else frames
        with av.open(str(folder / f"{number:04d}.mp4"), "w") as container:
            stream = container.add_stream("libx264", FPS)
            stream.options = {"preset": "medium", "crf": "22", "threads": "1"}
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            grain = rng.normal(0, _GRAIN, (8, HEIGHT, WIDTH, 1)).astype(np.float32)
            scene = _Scene(rng)
            for t in range(frames):
                if t == cut:
                    scene = _Scene(rng)
                pixels = np.clip(scene.image(t) + grain[rng.integers(8)], 0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))


def make_images(folder: Path, count: int) -> None:
    """Write ``count`` JPEGs of 500x375 pixels, what images of ImageNet are on average."""
    for number in range(count):
        pixels = np.clip(_texture(np.random.default_rng(number), 375, 500), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:04d}.jpg", quality=90)


class _Scene:
    """A background twice as large as the picture, and three things with paths of their own."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.back = _texture(rng, 2 * HEIGHT, 2 * WIDTH)
        self.things = [_texture(rng, HEIGHT, WIDTH) for _ in range(3)]
        self.radii = rng.uniform(20, 60, 3)
        # Sums of slow waves: amplitude [pixels], periods [frames] and phases of (y, x), each twice.
        self.waves = [
            (rng.uniform(a / 2, a, (2, 2)), rng.uniform(60, 250, (2, 2)), rng.uniform(0, 6, (2, 2)))
            for a in (20, 60, 60, 60)
        ]
        self.y, self.x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)

    def image(self, t: int) -> Pixels:
        """Picture ``[H,W,3]`` of frame ``t``, grey levels."""
        (y, x), *places = [
            (amplitude * np.sin(2 * np.pi * t / period + phase)).sum(0)
            for amplitude, period, phase in self.waves
        ]
        image = _shifted(self.back, HEIGHT / 2 + y, WIDTH / 2 + x)
        for texture, radius, (dy, dx) in zip(self.things, self.radii, places, strict=True):
            cy, cx = HEIGHT / 2 + dy, WIDTH / 2 + dx
            distance = np.hypot(self.y - cy, (self.x - cx) * (1.2 + 0.3 * np.sin(t / 9)))
            inside = np.clip((radius - distance) / 2 + 0.5, 0, 1)[..., None]
            image += inside * (np.roll(texture, (round(dy), round(dx)), (0, 1)) - image)
        return image


def _texture(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A picture ``[height,width,3]`` whose spectrum falls as those of photographs do, 1/f."""
    fy, fx = np.fft.fftfreq(height)[:, None, None], np.fft.rfftfreq(width)[None, :, None]
    falling = 1 / np.maximum(np.hypot(fy, fx), 1 / width) ** 1.4
    noise = np.fft.rfft2(rng.normal(size=(height, width, 3)), axes=(0, 1))
    made = np.fft.irfft2(noise * falling, (height, width), axes=(0, 1))
    grey = made.mean(2, keepdims=True)
    made = grey + 0.4 * (made - grey)
    levels: Pixels = (rng.uniform(90, 160, 3) + 45 * made / made.std()).astype(np.float32)
    return levels


def _shifted(image: Pixels, top: float, left: float) -> Pixels:
    """The part of ``image`` at a place between pixels, ``[H,W,3]``."""
    y, x = int(top), int(left)
    part = image[y : y + HEIGHT + 1, x : x + WIDTH + 1]
    part = part[:-1] + np.float32(top - y) * (part[1:] - part[:-1])
    moved: Pixels = part[:, :-1] + np.float32(left - x) * (part[:, 1:] - part[:, :-1])
    return moved
