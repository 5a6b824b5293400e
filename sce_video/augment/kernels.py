"""The pointwise ops as they are, or compiled to fused loops: of a clip, or of a whole view."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sce_video.augment import ops
from sce_video.augment.fused import FusedView
from sce_video.compiler import FAILURES, prepare
from sce_video.config.recipes import Recipe
from sce_video.errors import first_line

ENOUGH_CLIPS = {"cpu": 20_000, "cuda": 500_000}
"""Clips from which compiling pays. It takes some 20 s and saves 1 ms or more a clip (112 px) on a
CPU; on an H200 all of it takes 0.1 ms a clip."""

NOT_COMPILED = "augmentation is not compiled and runs slower: %s"

_Jitter = Callable[[Tensor, Tensor], Tensor]  # (clips, factors)

log = logging.getLogger("sce_video")


@dataclass(frozen=True)
class Kernels:
    """The ops that gain by compiling."""

    jitter: tuple[_Jitter, ...] = (ops.brightness, ops.contrast, ops.saturation, ops.hue)
    normalise: Callable[[Tensor, Tensor, Tensor], Tensor] = ops.normalise
    view: FusedView | None = None  # all ops of a batch at once, in place of the others


EAGER = Kernels()


def choose_kernels(
    recipe: Recipe, frames: int, size: int, device: torch.device, clips: int
) -> Kernels:
    """Compiled for a recipe with colour jitter and a run long enough, else eager.

    A clip at a time stays in a core's cache: a CPU gets single ops. A GPU gets whole views.

    Args:
        recipe: of the run.
        frames: of a clip.
        size: base size, pixels.
        device: that augments.
        clips: that this process will augment in the whole run.
    """
    jitters = any(view.jitter for view in recipe.views)
    if not jitters or clips < ENOUGH_CLIPS[device.type]:
        return EAGER
    if device.type == "cuda":
        return Kernels(view=FusedView())
    return compile_kernels(recipe, frames, size)


@torch.no_grad()
def compile_kernels(recipe: Recipe, frames: int, size: int) -> Kernels:
    """Compile for clips of ``frames`` and base ``size`` one by one; eager with a log line if not.

    Compiled and eager agree to 1e-5.
    """
    prepare()
    # Threads: no pool of compiling processes is left behind for these few small kernels.
    options: dict[str, str | int | bool | Callable[..., Any]] = {"compile_threads": 1}
    made = Kernels(
        tuple(torch.compile(op, dynamic=False, options=options) for op in EAGER.jitter),
        torch.compile(EAGER.normalise, dynamic=False, options=options),
    )
    try:
        for side in {side for _, side in recipe.crops(size)}:
            x = torch.zeros(1, frames, 3, side, side)
            for op in made.jitter:
                op(x, torch.ones(1))
            made.normalise(x, *map(torch.tensor, recipe.stats))
    except FAILURES as error:  # whatever compiler or cache folder lacks
        log.warning(NOT_COMPILED, first_line(error))
        return EAGER
    return made
