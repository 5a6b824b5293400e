"""Draws the parameters of a batch of clips, on the CPU; the device only applies them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sce_video.config.recipes import ViewRecipe
from sce_video.stream.draws import uniforms

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ViewParams:
    """Parameters of B clips, one row a clip, shared by its frames."""

    jitter: Flags  # [B]
    order: NDArray[np.int64]  # [B,4]: which op comes nth, by its place in ``factors``
    factors: NDArray[np.float32]  # [B,4]: brightness, contrast, saturation; hue shift in turns
    gray: Flags  # [B]
    blur: Flags  # [B]
    sigma: NDArray[np.float32]  # [B] of the blur, pixels
    solarize: Flags  # [B]
    flip: Flags  # [B]

    def __getitem__(self, rows: slice) -> ViewParams:
        """The parameters of some of the clips."""
        return ViewParams(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def draw(
    recipe: ViewRecipe, seed: int, epochs: NDArray[np.int64], rows: NDArray[np.int64], view: int
) -> ViewParams:
    """Parameters of one view of a batch: a pure function of (seed, epoch, row, view).

    Args:
        recipe: probabilities and ranges.
        seed: of the run.
        epochs: of each sample ``[B]``.
        rows: of each sample ``[B]``.
        view: number of the view in its recipe, from 0.
    """
    samples = zip(epochs.tolist(), rows.tolist(), strict=True)
    u = np.stack([uniforms(seed, epoch, row, view, "colour", 14) for epoch, row in samples])
    *spread, hue = recipe.strengths
    low, high = np.maximum(0.0, 1.0 - np.array(spread)), 1.0 + np.array(spread)
    factors = low + u[:, 5:8] * (high - low)
    turns = (2 * u[:, 8:9] - 1) * hue
    sigma = recipe.sigma[0] + u[:, 9] * (recipe.sigma[1] - recipe.sigma[0])
    return ViewParams(
        jitter=u[:, 0] < recipe.jitter,
        order=np.argsort(u[:, 10:14], axis=1),
        factors=np.concatenate([factors, turns], axis=1).astype(np.float32),
        gray=u[:, 1] < recipe.gray,
        blur=u[:, 2] < recipe.blur,
        sigma=sigma.astype(np.float32),
        solarize=u[:, 3] < recipe.solarize,
        flip=u[:, 4] < recipe.flip,
    )
