"""Recipes as data: which op with which probability, a view each."""

from __future__ import annotations

from dataclasses import dataclass, replace

KINETICS_MEAN = (0.45, 0.45, 0.45)
KINETICS_STD = (0.225, 0.225, 0.225)


@dataclass(frozen=True)
class ViewRecipe:
    """What happens to one view on the device, in this order; probabilities in [0,1]."""

    jitter: float  # probability of the four colour ops together
    brightness: float  # factor in [max(0, 1 - v), 1 + v]
    contrast: float
    saturation: float
    hue: float  # shift in [-h, h] of a turn
    gray: float
    blur: float
    solarize: float
    flip: float
    sigma: tuple[float, float] = (0.1, 2.0)  # of the blur, pixels
    kernel: int = 23  # of the blur, pixels at size 224; scaled with the clip's size
    threshold: float = 0.5  # of solarize, of [0,1]
    mean: tuple[float, float, float] = KINETICS_MEAN
    std: tuple[float, float, float] = KINETICS_STD


_SCE = ViewRecipe(
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    gray=0.2,
    blur=1.0,
    solarize=0.0,
    flip=0.5,
)
_PLAIN = replace(_SCE, jitter=0.0, gray=0.0, blur=0.0)

RECIPES: dict[str, tuple[ViewRecipe, ViewRecipe]] = {
    # The published video runs: blur always on the first view, rarely on the second.
    "sce_video": (_SCE, replace(_SCE, blur=0.1, solarize=0.2)),
    # Crop and flip alone.
    "crop_flip": (_PLAIN, _PLAIN),
}
"""Name -> recipe of the first and of the second view."""


def recipe(name: str, color_strength: float, flip: float) -> tuple[ViewRecipe, ViewRecipe]:
    """A recipe with its colour jitter scaled by ``color_strength`` (1 = brightness 0.8).

    The published sets are called strength 0.5 (brightness 0.4 ...) and strength 1.0 (0.8 ...).
    """
    scale = color_strength / 0.5
    first, second = (
        replace(
            view,
            brightness=view.brightness * scale,
            contrast=view.contrast * scale,
            saturation=view.saturation * scale,
            hue=view.hue * scale,
            flip=flip,
        )
        for view in RECIPES[name]
    )
    return first, second
