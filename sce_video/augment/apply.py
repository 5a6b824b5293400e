"""Applies drawn parameters to batches of clips; one code path on every device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sce_video.augment import ops
from sce_video.augment.kernels import EAGER, NOT_COMPILED, Kernels
from sce_video.augment.parameters import Flags, ViewParams, draw
from sce_video.compiler import FAILURES
from sce_video.config.recipes import Recipe, ViewRecipe
from sce_video.errors import first_line

log = logging.getLogger("sce_video")


class Augmenter:
    """Makes the views of a recipe out of uint8 clips, on ``device``."""

    def __init__(
        self, recipe: Recipe, seed: int, device: torch.device, kernels: Kernels = EAGER
    ) -> None:
        self.recipe, self.seed, self.device, self.kernels = recipe, seed, device, kernels
        self._stats = [torch.tensor(colour, device=device) for colour in recipe.stats]

    def __call__(
        self, views: Sequence[Tensor], epochs: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> list[Tensor]:
        """Augmented views: a pure function of the clips and of (seed, epoch, row, view).

        Args:
            views: a tensor ``[B,T,3,S,S]`` uint8 for each view of the recipe.
            epochs: of each sample ``[B]``.
            rows: of each sample ``[B]``.

        Returns:
            A tensor ``[B,3,T,S,S]`` float32 a view, normalised, in ``channels_last_3d``.
        """
        made = []
        for number, (clips, view) in enumerate(zip(views, self.recipe.views, strict=True)):
            params = draw(view, self.seed, epochs, rows, number)
            made.append(self.apply(clips.to(self.device, non_blocking=True), params, view))
        return made

    @torch.no_grad()
    def apply(self, clips: Tensor, params: ViewParams, view: ViewRecipe) -> Tensor:
        """One view with given parameters; shapes as above."""
        if self.kernels.view:
            try:
                return self.kernels.view(clips, params, view, self.recipe.stats)
            except torch.OutOfMemoryError:
                raise
            except FAILURES as error:
                log.warning(NOT_COMPILED, first_line(error))
                self.kernels = EAGER
        b, t, c, h, w = clips.shape
        layout = torch.channels_last_3d
        out = torch.empty(b, c, t, h, w, device=clips.device, memory_format=layout)
        # One clip at a time stays in a core's cache; a GPU takes the batch.
        step = 1 if clips.device.type == "cpu" else max(b, 1)
        for begin in range(0, b, step):
            some = slice(begin, begin + step)
            part = clips[some].contiguous().float().div_(255)  # the loader's come channels last
            x = self._colour(part, params[some], view)
            out[some] = self.kernels.normalise(x, *self._stats)
        return out

    def _colour(self, x: Tensor, params: ViewParams, view: ViewRecipe) -> Tensor:
        for place in range(4 if view.jitter else 0):
            for n, op in enumerate(self.kernels.jitter):
                chosen = params.jitter & (params.order[:, place] == n)
                x = _on(x, chosen, op, params.factors[:, n])
        x = _on(x, params.gray, ops.grayscale)
        x = _on(x, params.blur, partial(ops.blur, kernel=view.kernel), params.sigma)
        x = _on(x, params.solarize, ops.solarize)
        return _on(x, params.flip, partial(torch.flip, dims=(-1,)))


def _on(
    x: Tensor, chosen: Flags, op: Callable[..., Tensor], *values: NDArray[np.float32]
) -> Tensor:
    """``x`` with the chosen clips as ``op`` makes them: chosen here, so no device is waited for."""
    if not chosen.any():
        return x
    parameters = [torch.from_numpy(v[chosen]).to(x.device, non_blocking=True) for v in values]
    if chosen.all():
        return op(x, *parameters)
    rows = torch.from_numpy(chosen.nonzero()[0]).to(x.device, non_blocking=True)
    x[rows] = op(x[rows], *parameters)
    return x
