"""A small labelled video set drawn by procedure, for demonstrations and tests.

Every video shows a drifting pattern of equal objects before a moving background. Its class is
the objects' shape and the way they move (4 shapes x 4 motions = 16 classes), and nothing else:
colours, background, size, spacing, place, speed and noise are drawn per video, and all but the
noise's strength also change *inside* a video. That matters for contrastive training: whatever
stays the same through a video tells it from the others and is learned instead of the class.

All motions keep their class under a horizontal flip. Drawing needs numpy, encoding needs PyAV;
nothing here imports torch.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from sce_video.files import PARTIAL
from sce_video.shard.sources import Options, Scan
from sce_video.shard.sources.listing import check_splits, class_folders, split_classes
from sce_video.shard.sources.tree import walk
from sce_video.video.encode import STEADY

Floats = NDArray[np.float32]

SHAPES: Final = ("bar", "pillar", "disc", "cross")
MOTIONS: Final = ("orbit", "sway", "bounce", "pulse")
CLASSES: Final[tuple[str, ...]] = tuple(f"{s}_{m}" for s in SHAPES for m in MOTIONS)
FPS: Final = 10
SIZE: Final = 48  # height and width of a frame in pixels
FRAMES: Final = 48  # frames of a video: 4.8 s
SPLITS: Final = ("train", "test")
TRAIN_PER_CLASS: Final = 60
TEST_PER_CLASS: Final = 25

_PERIOD = (0.7, 1.1)  # seconds for one round of a motion
_REACH = (0.25, 0.40)  # how far a motion carries an object, in cells of the pattern
_CELL = (20.0, 28.0)  # distance between neighbouring objects in pixels
_RADIUS = (0.31, 0.38)  # radius of an object, in cells
_TILT = 0.1  # largest tilt of an object in radians
_SCATTER = 0.06  # how far an object lies off its cell's centre, in cells
_GRID_RATE = 0.02  # fastest turn of the pattern's grid, in turns per second
_DRIFT = 0.2  # fastest drift of the whole pattern along each axis, in cells per second
_HUE_RATE = (0.15, 0.40)  # turns of the colour circle per second
_NOISE = 3.0  # standard deviation of the grain, in grey levels of 255


def _sway(rng: np.random.Generator, low: float, high: float, period: float = 2.0) -> Floats:
    """A smooth random walk between two bounds: float32 [FRAMES,1,1], unit of `low` and `high`.

    The slowest of these waves takes 2.5 times `period` seconds.
    """
    t = np.arange(FRAMES)[:, None, None] / FPS
    turn = rng.uniform(period, 2.5 * period)
    a, b = rng.uniform(0, 2 * np.pi, 2)
    wave = np.sin(2 * np.pi * t / turn + a + 0.8 * np.sin(2 * np.pi * t / (1.7 * turn) + b))
    return np.asarray(low + (high - low) * (0.5 + 0.5 * wave), np.float32)


def _turn(rng: np.random.Generator, slow: float, fast: float) -> Floats:
    """A phase that turns at one speed from anywhere, either way: float32 [FRAMES,1,1] turns."""
    speed = rng.choice((-1, 1)) * rng.uniform(slow, fast)
    return np.asarray(rng.uniform() + speed * np.arange(FRAMES)[:, None, None] / FPS, np.float32)


def _colour(hue: Floats, saturation: Floats, value: Floats) -> Floats:
    """Cosine palette: hue in turns, the others in 0..1, [T,H,W] or alike -> float32 [T,H,W,3]."""
    third = np.array([0.0, 1 / 3, 2 / 3], np.float32)
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * (hue[..., None] + third))
    return np.asarray(value[..., None] * (1 - saturation[..., None] * wave))


def _rotate(x: Floats, y: Floats, angle: Floats) -> tuple[Floats, Floats]:
    """The coordinates turned by `angle` (radians); shapes broadcast against each other."""
    cos, sin = np.cos(angle), np.sin(angle)
    return x * cos - y * sin, x * sin + y * cos


def _distance(shape: str, x: Floats, y: Floats) -> Floats:
    """Signed distance to a shape's edge, negative inside, in radii; x and y [T,H,W] in radii."""
    a, b = np.abs(x), np.abs(y)
    if shape == "bar":
        return np.maximum(a - 1.0, b - 0.38)
    if shape == "pillar":
        return np.maximum(a - 0.38, b - 1.0)
    if shape == "disc":
        return np.asarray(np.hypot(x, y) - 0.85)
    # A cross: two arms at 45 degrees, which a flip keeps.
    u, v = (0.7071 * np.abs(side) for side in (x + y, x - y))
    return np.asarray(np.minimum(np.maximum(u - 1.0, v - 0.3), np.maximum(u - 0.3, v - 1.0)))


def _motion(motion: str, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Offset along x and y in cells and factor of the radius, each float32 [FRAMES,1,1]."""
    pace = 1 / _sway(rng, *_PERIOD)  # the speed changes inside a video, too
    phase = 2 * np.pi * (rng.uniform() + np.cumsum(pace, axis=0) / FPS) * rng.choice((-1, 1))
    reach = _sway(rng, *_REACH)
    across, along = reach * np.sin(phase), reach * np.cos(phase)
    rest = np.zeros_like(phase)
    x, y, factor = {
        "orbit": (across, along, rest + 1),
        "sway": (across, rest, rest + 1),
        "bounce": (rest, across, rest + 1),
        "pulse": (rest, rest, 0.8 + 0.4 * np.sin(phase)),
    }[motion]
    return x.astype(np.float32), y.astype(np.float32), factor.astype(np.float32)


def _background(rng: np.random.Generator) -> Floats:
    """Two turning waves in two drifting hues, dark: float32 [FRAMES,SIZE,SIZE,3] in 0..1."""
    axis = ((np.arange(SIZE) + 0.5) / SIZE - 0.5).astype(np.float32)
    x, y = axis[None, None, :], axis[None, :, None]
    field = np.full((FRAMES, SIZE, SIZE), 0.5, np.float32)
    for _ in range(2):
        angle = 2 * np.pi * _turn(rng, 0.05, 0.2)
        waves = _sway(rng, 0.5, 2.0, 1.5)  # waves over the width of the frame
        along, _ = _rotate(x, y, -angle)
        field += 0.25 * np.sin(2 * np.pi * (waves * along + _turn(rng, 0.2, 0.6)))
    hue = _turn(rng, *_HUE_RATE) + _sway(rng, 0.1, 0.4) * field
    saturation = _sway(rng, 0.2, 0.6)
    value = _sway(rng, 0.1, 0.3, 1.5) + 0.12 * (field - 0.5)
    return _colour(hue, saturation, np.maximum(value, 0))


def _pattern(motion: str, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Each pixel's place relative to its nearest object: x and y [T,H,W] in radii, radius [T,1,1].

    The objects sit in the cells of a brick-like grid at any angle and share one motion.
    """
    move_x, move_y, factor = _motion(motion, rng)
    cell = _sway(rng, *_CELL)
    radius = _sway(rng, *_RADIUS) * factor
    drift = [rng.uniform(0, 8) + np.cumsum(_sway(rng, -_DRIFT, _DRIFT), 0) / FPS for _ in range(2)]
    grid = 2 * np.pi * _turn(rng, 0.0, _GRID_RATE)
    tilt = grid + _sway(rng, -_TILT, _TILT)
    axis = (np.arange(SIZE) + 0.5 - SIZE / 2).astype(np.float32)
    x, y = axis[None, None, :] / cell - move_x, axis[None, :, None] / cell - move_y
    x, y = _rotate(x, y, -grid)
    x, y = x + drift[0], y + drift[1]
    row = np.floor(y)
    x = x + 0.5 * (row % 2)
    column = np.floor(x)
    a, b = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
    x = x - column - 0.5 - _SCATTER * np.sin(12.99 * row + 78.23 * column + a)
    y = y - row - 0.5 - _SCATTER * np.sin(39.42 * row + 11.14 * column + b)
    turned = _rotate(x, y, tilt)  # back again: the grid lies askew, its objects stand upright
    return turned[0] / radius, turned[1] / radius, radius * cell


def render_video(class_name: str, seed: int) -> NDArray[np.uint8]:
    """Draw one video: uint8 [FRAMES,SIZE,SIZE,3], RGB. The same arguments give the same bytes.

    `class_name` is one of `CLASSES`; `seed` is any non-negative integer.
    """
    shape, _, motion = class_name.partition("_")
    if class_name not in CLASSES:
        raise ValueError(f"unknown class {class_name!r}; known are {', '.join(CLASSES)}")
    rng = np.random.default_rng([seed, CLASSES.index(class_name)])
    picture = _background(rng)
    x, y, radius = _pattern(motion, rng)
    distance = _distance(shape, x, y) * radius  # in pixels: one pixel of soft edge
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    shadow = 0.45 * np.clip(1 - np.maximum(distance, 0) / 3.5, 0, 1)[..., None]
    hue = _turn(rng, *_HUE_RATE) + 0.1 * y
    value = np.clip(_sway(rng, 0.8, 1.0) - 0.08 * y, 0, 1)
    objects = _colour(hue, _sway(rng, 0.15, 0.8), value)
    picture *= 1 - shadow
    picture += cover * (objects - picture)
    grain = rng.standard_normal((FRAMES, SIZE, SIZE, 1), np.float32)
    levels = np.clip(255 * picture + np.float32(_NOISE) * grain, 0, 255)
    return levels.astype(np.uint8)


def _write(job: tuple[str, int, Path]) -> None:
    """Worker: draw one video and write it as H.264 in mp4; the job is (class name, seed, path)."""
    class_name, seed, path = job
    options = {"crf": "20", "preset": "veryfast", "tune": "fastdecode", "x264-params": STEADY}
    convert = VideoReformatter()  # one for all frames: making it costs more than using it
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        stream.codec_context.thread_count = 1
        for index, pixels in enumerate(render_video(class_name, seed)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = convert.reformat(frame, format="yuv420p", threads=1)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def render_set(
    root: Path,
    *,
    seed: int,
    train_per_class: int,
    test_per_class: int,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write `root/train/<class>/<name>.mp4` and `root/test/<class>/<name>.mp4`.

    Both splits are drawn from the same distribution with seeds of their own. The names are the
    videos' seeds in hexadecimal, so they tell neither class nor order. One process per processor
    draws; `progress(done)` is called after every video. The pool spawns its processes, so
    a script that calls this needs the usual `if __name__ == "__main__"`.
    """
    jobs: list[tuple[str, int, Path]] = []
    for split, count in enumerate((train_per_class, test_per_class)):
        for index, class_name in enumerate(CLASSES):
            folder = root / SPLITS[split] / class_name
            folder.mkdir(parents=True, exist_ok=True)
            sequence = np.random.SeedSequence([seed, split, index])
            for own in sequence.generate_state(count, np.uint64).tolist():
                jobs.append((class_name, own, folder / f"{own:016x}.mp4"))
    with multiprocessing.get_context("spawn").Pool(os.cpu_count() or 1) as pool:
        for done, _ in enumerate(pool.imap_unordered(_write, jobs, chunksize=4), start=1):
            progress(done)


def scan(name: str, root: Path, options: Options) -> Scan:
    """List a rendered set; where ``root`` is absent, render it first (seed 0, default counts)."""
    if not root.exists():
        partial = root.with_name(root.name + PARTIAL)  # a half rendered set must not pass for one
        shutil.rmtree(partial, ignore_errors=True)
        render_set(partial, seed=0, train_per_class=TRAIN_PER_CLASS, test_per_class=TEST_PER_CLASS)
        partial.rename(root)
    check_splits(name, options.splits, SPLITS)
    without = [split for split in SPLITS if options.splits and split not in options.splits]
    tree = walk(root, options, without=without)
    splits = {split: class_folders(tree, split) for split in SPLITS}
    return split_classes(tree, "video", splits, options.splits, "{split}/CLASS/*.mp4")
