"""Draws the parameters of a batch of clips, on the CPU; the device only applies them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sce_video.augment.recipes import ViewRecipe
from sce_video.stream.draws import uniforms


@dataclass(frozen=True)
class ViewParams:
    """Parameters of B clips, one row a clip, shared by its frames. Neutral where an op is off."""

    jitter: Tensor  # [B] bool
    order: Tensor  # [B,4] int64: which op (0 brightness, 1 contrast, 2 saturation, 3 hue) comes nth
    factors: Tensor  # [B,4] float: three factors, and the hue shift in turns
    gray: Tensor  # [B] bool
    sigma: Tensor  # [B] float, 0 = no blur
    solarize: Tensor  # [B] bool
    flip: Tensor  # [B] bool

    def to(self, device: torch.device) -> ViewParams:
        """The same on ``device``."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return ViewParams(**moved)


def draw(
    recipe: ViewRecipe, seed: int, epochs: NDArray[np.int64], rows: NDArray[np.int64], view: int
) -> ViewParams:
    """Parameters of one view of a batch: a pure function of (seed, epoch, row, view).

    Args:
        recipe: of the view.
        seed: of the run.
        epochs: of each sample ``[B]``.
        rows: of each sample ``[B]``.
        view: its number.
    """
    u = np.stack(
        [
            uniforms(seed, int(e), int(r), view, "colour", 14)
            for e, r in zip(epochs, rows, strict=True)
        ]
    )
    spread = np.array([recipe.brightness, recipe.contrast, recipe.saturation])
    low, high = np.maximum(0.0, 1.0 - spread), 1.0 + spread
    factors = low + u[:, 5:8] * (high - low)
    hue = (2 * u[:, 8:9] - 1) * recipe.hue
    sigma = recipe.sigma[0] + u[:, 9] * (recipe.sigma[1] - recipe.sigma[0])
    return ViewParams(
        jitter=torch.from_numpy(u[:, 0] < recipe.jitter),
        order=torch.from_numpy(np.argsort(u[:, 10:14], axis=1)),
        factors=torch.from_numpy(np.concatenate([factors, hue], axis=1)).float(),
        gray=torch.from_numpy(u[:, 1] < recipe.gray),
        sigma=torch.from_numpy(np.where(u[:, 2] < recipe.blur, sigma, 0.0)).float(),
        solarize=torch.from_numpy(u[:, 3] < recipe.solarize),
        flip=torch.from_numpy(u[:, 4] < recipe.flip),
    )
