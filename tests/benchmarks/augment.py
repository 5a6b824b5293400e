"""Augmentation beside torchvision v2, clip by clip.

Every row makes the same views: uint8 frames of 256x340 as a decoder leaves them, to normalised
clips, with the same boxes, factors and sigmas. The ratio is to the faster torchvision row, whose
blur is spared the denormal weights (``torch.set_flush_denormal``) that slow it down 2 to 3 times.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sce_video.arguments import Parser, whole
from sce_video.augment.apply import Augmenter
from sce_video.augment.kernels import EAGER, compile_kernels
from sce_video.augment.parameters import ViewParams, draw
from sce_video.config.recipes import RECIPES, Recipe, ViewRecipe
from sce_video.stream.crops import DRAWS, Box, random_box
from sce_video.stream.cut import resize
from sce_video.stream.draws import uniforms
from tests.benchmarks.sets import run_bench
from tests.torchvision_colour import torchvision_colour

FRAMES, HEIGHT, WIDTH = 8, 256, 340
RECIPE = "kinetics_strength_0.5"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    size: int
    clips: int
    cpu_ms: float
    """CPU milliseconds a clip."""
    wall_ms: float
    ratio: float
    """CPU time of the faster torchvision row of this size over this row's."""
    warm_up: float | None
    """Seconds of wall time to compile; with a filled compiler cache, to load."""


@dataclass(frozen=True)
class _Work:
    """A view of a batch: what every row has to make."""

    videos: list[Tensor]  # B views [T,3,H,W] uint8 of NHWC memory
    boxes: list[Box]
    size: int
    view: ViewRecipe
    params: ViewParams
    recipe: Recipe

    def torchvision(self, *, uint8: bool) -> list[Tensor]:
        torch.set_flush_denormal(True)
        made = []
        for row, (video, box) in enumerate(zip(self.videos, self.boxes, strict=True)):
            # Resized as a view of NHWC memory, then planar: the fastest that torchvision has.
            clip = tv.resized_crop(video, *box, [self.size] * 2, antialias=True).contiguous()
            if not uint8:
                clip = tv.to_dtype(clip, torch.float32, scale=True)
            clip = torchvision_colour(clip, self.params, row, self.view)
            clip = tv.to_dtype(clip, torch.float32, scale=True)
            made.append(tv.normalize(clip, *map(list, self.recipe.stats)))
        torch.set_flush_denormal(False)
        return made

    def ours(self, augmenter: Augmenter) -> Tensor:
        clips = []
        for video, (top, left, height, width) in zip(self.videos, self.boxes, strict=True):
            crop = video[:, :, top : top + height, left : left + width]
            clips.append(resize(crop, (self.size, self.size), antialias=True).contiguous())
        return augmenter.apply(torch.stack(clips), self.params, self.view)


def _videos(count: int) -> list[Tensor]:
    """Smooth colours under noise, moving; as decoded."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        coarse = torch.rand(1, 3, FRAMES, 8, 10, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, (FRAMES, HEIGHT, WIDTH), mode="trilinear")
        noise = torch.randn(FRAMES, HEIGHT, WIDTH, 3, generator=generator) * 0.02
        frames = ((smooth[0].permute(1, 2, 3, 0) + noise).clamp(0, 1) * 255).to(torch.uint8)
        made.append(frames.permute(0, 3, 1, 2))
    return made


def bench_augment(sizes: Sequence[int], *, rounds: int, batch: int) -> list[Row]:
    """All rows for all ``sizes``, taken in turn; each round has parameters of its own."""
    recipe, device = RECIPES[RECIPE], torch.device("cpu")
    videos = _videos(batch)
    rows = []
    for size in sizes:
        began = time.perf_counter()
        kernels = compile_kernels(recipe, FRAMES, size)
        warm_up = time.perf_counter() - began
        tasks: dict[str, Callable[[_Work], object]] = {
            "torchvision v2, uint8 to the end": partial(_Work.torchvision, uint8=True),
            "torchvision v2, float after crop": partial(_Work.torchvision, uint8=False),
            "eager": partial(_Work.ours, augmenter=Augmenter(recipe, 0, device)),
        }
        if kernels is not EAGER:
            tasks["compiled"] = partial(_Work.ours, augmenter=Augmenter(recipe, 0, device, kernels))
        spent = {name: np.zeros(2) for name in tasks}
        for number in range(-1, rounds):  # the first is not counted
            for work in _works(recipe, videos, size, number):
                for name, task in tasks.items():
                    start = np.array([time.process_time(), time.perf_counter()])
                    task(work)
                    end = np.array([time.process_time(), time.perf_counter()])
                    spent[name] += (end - start) * (number >= 0)
        clips = rounds * batch * len(recipe.views)
        best = min(cpu for name, (cpu, _) in spent.items() if "torchvision" in name)
        for name, (cpu, wall) in spent.items():
            warm = warm_up if name == "compiled" else None
            times = (1000 * cpu / clips, 1000 * wall / clips)
            rows.append(Row(name, size, clips, *times, best / cpu, warm))
    return rows


def _works(recipe: Recipe, videos: list[Tensor], size: int, epoch: int) -> list[_Work]:
    rows, epochs = np.arange(len(videos)), np.full(len(videos), epoch)
    works = []
    for number, (view, (crop, side)) in enumerate(
        zip(recipe.views, recipe.crops(size), strict=True)
    ):
        draws = [uniforms(0, epoch, int(row), number, "crop", DRAWS) for row in rows]
        boxes = [random_box(crop, HEIGHT, WIDTH, side, u)[0] for u in draws]
        params = draw(view, 0, epochs, rows, number)
        works.append(_Work(videos, boxes, side, view, params, recipe))
    return works


def _print(rows: Sequence[Row]) -> None:
    print(f"{RECIPE}, {FRAMES}x{HEIGHT}x{WIDTH} uint8, {torch.get_num_threads()} thread(s)")
    print(f"{'':<34} {'px':>4} {'clips':>6} {'CPU ms/clip':>12} {'wall':>7} {'ratio':>6}  warm-up")
    for row in rows:
        warm = "" if row.warm_up is None else f"{row.warm_up:.1f} s"
        line = f"{row.name:<34} {row.size:>4} {row.clips:>6} {row.cpu_ms:>12.2f}"
        print(f"{line} {row.wall_ms:>7.2f} {row.ratio:>6.2f}  {warm}".rstrip())


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    parser = Parser(prog="python -m tests.benchmarks.augment", description=__doc__)
    parser.add_argument("--rounds", type=whole(1), default=10, help="default 10")
    parser.add_argument("--batch", type=whole(1), default=8, help="clips, default 8")
    parser.add_argument("--threads", type=whole(1), default=1, help="default 1")
    parser.add_argument("--sizes", type=whole(12), nargs="+", default=[112, 224], help="pixels")

    def bench(args: argparse.Namespace) -> list[Row]:
        torch.set_num_threads(args.threads)
        return bench_augment(args.sizes, rounds=args.rounds, batch=args.batch)

    return run_bench(parser, argv, bench, _print)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
