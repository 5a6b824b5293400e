"""Recipes as tables: which part of a frame, which ops with which probability, a row a view."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sce_video.errors import UsageError
from sce_video.stream.crops import CentreCrop, Crop, RandomCrop, RandomResizedCrop

Colour = tuple[float, float, float]  # red, green, blue, of pixels in [0,1]

_VIDEO = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


@dataclass(frozen=True)
class ViewRecipe:
    """What happens to one view, in this order; ops are named by their probability, 0 = off."""

    crop: Crop
    side: float = 1.0  # of the view, as a share of the base size
    jitter: float = 0.0  # of the four colour ops together, in random order
    strengths: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Brightness, contrast, saturation: factors in [max(0, 1 - v), 1 + v]; hue: in turns, +-h."""
    gray: float = 0.0
    blur: float = 0.0  # Gaussian
    solarize: float = 0.0  # what is at least 0.5 of [0,1]
    flip: float = 0.0  # horizontal
    sigma: tuple[float, float] = (0.1, 2.0)  # of the blur, pixels
    kernel: int = 23  # taps of the blur, at every size


@dataclass(frozen=True)
class Recipe:
    """The views of a sample."""

    views: tuple[ViewRecipe, ...]
    stats: tuple[Colour, Colour]  # mean and std that normalise the pixels
    temporal_difference: float = 0.0  # probability, each view by itself

    def crops(self, size: int) -> tuple[tuple[Crop, int], ...]:
        """Rule and side in pixels of each view, for a base ``size``.

        Raises:
            UsageError: a view too small for its blur, whose borders are reflected.
        """
        made = tuple((view.crop, round(size * view.side)) for view in self.views)
        for view, (_, side) in zip(self.views, made, strict=True):
            if view.blur and side <= view.kernel // 2:
                raise UsageError(
                    f"clip.size {size}: a view of {side} pixels is too small for a blur of "
                    f"{view.kernel} taps; its side must be {view.kernel // 2 + 1} or more"
                )
        return made


def _asymmetric(view: ViewRecipe) -> tuple[ViewRecipe, ViewRecipe]:
    """BYOL's pair: blur always and never solarize, then blur rarely and solarize at times."""
    return replace(view, blur=1.0), replace(view, blur=0.1, solarize=0.2)


def _local(side: int, low: float, high: float) -> ViewRecipe:
    """A small view of multi-crop, ``side`` pixels where the base is 224."""
    crop = RandomResizedCrop((low, high))
    return replace(_IMAGE, crop=crop, side=side / 224, blur=0.5, solarize=0.2)


_CROP = RandomResizedCrop((0.2, 1.0))
_VIDEO_CROP = RandomResizedCrop((0.2, 0.766))
_IMAGE = ViewRecipe(_CROP, jitter=0.8, strengths=(0.4, 0.4, 0.2, 0.1), gray=0.2, flip=0.5)
_MOCO = replace(_IMAGE, strengths=(0.4, 0.4, 0.4, 0.1), blur=0.5)
_CLIP = replace(_IMAGE, crop=_VIDEO_CROP)
_STRONG_CLIP = replace(_CLIP, strengths=(0.8, 0.8, 0.4, 0.2))
_PLAIN_CLIP = ViewRecipe(_VIDEO_CROP, flip=0.5)
_TRAINED_CLIP = ViewRecipe(RandomCrop(), flip=0.5)
_TUNED_CLIP = replace(_TRAINED_CLIP, jitter=0.8, strengths=(0.4, 0.4, 0.4, 0.1), gray=0.2)
_LOCALS = (
    _local(192, 0.172, 0.86),
    _local(160, 0.143, 0.715),
    _local(128, 0.114, 0.571),
    _local(96, 0.086, 0.429),
)

RECIPES: dict[str, Recipe] = {
    # Pretraining on videos: the published runs, without and with temporal difference.
    "kinetics_strength_0.5": Recipe(_asymmetric(_CLIP), _VIDEO),
    "kinetics_strength_1.0": Recipe(_asymmetric(_STRONG_CLIP), _VIDEO, temporal_difference=0.2),
    # A plain clip for the keys, as ReSSL has it on images: ours, no published run.
    "kinetics_weak_strong": Recipe(
        (_PLAIN_CLIP, replace(_STRONG_CLIP, blur=0.5)), _VIDEO, temporal_difference=0.2
    ),
    "crop_flip": Recipe((_PLAIN_CLIP, _PLAIN_CLIP), _VIDEO),
    # Pretraining on images.
    "imagenet_two_view": Recipe(_asymmetric(_IMAGE), _IMAGENET),
    "imagenet_five_crop": Recipe((*_asymmetric(_IMAGE), *_LOCALS), _IMAGENET),
    "moco_v2": Recipe((_MOCO, _MOCO), _IMAGENET),
    "cifar_weak_strong": Recipe((ViewRecipe(_CROP, flip=0.5), _MOCO), _CIFAR10),
    # Training of a linear probe or of the whole network with labels.
    "video_linear": Recipe((_TRAINED_CLIP,), _VIDEO),
    "video_finetune": Recipe((_TUNED_CLIP,), _VIDEO),
    "imagenet_linear": Recipe((ViewRecipe(RandomResizedCrop((0.08, 1.0)), flip=0.5),), _IMAGENET),
    # Evaluation: 256 for a base of 224, and the centre 224 of 256.
    "video_eval": Recipe((ViewRecipe(CentreCrop(), side=8 / 7),), _VIDEO),
    "imagenet_eval": Recipe((ViewRecipe(CentreCrop(8 / 7)),), _IMAGENET),
}
"""Name -> recipe."""


def find_recipe(
    name: str,
    *,
    flip: float | None = None,
    area: tuple[float, float] | None = None,
    aspect: tuple[float, float] | None = None,
    temporal_difference: float | None = None,
) -> Recipe:
    """A recipe of :data:`RECIPES`; what is not None replaces the recipe's own, in every view.

    Args:
        name: of the recipe.
        flip: probability.
        area: of random resized crops, share of the frame.
        aspect: of random resized crops, width over height.
        temporal_difference: probability.
    """
    recipe = RECIPES[name]
    views = []
    for view in recipe.views:
        crop = view.crop
        if isinstance(crop, RandomResizedCrop):
            crop = RandomResizedCrop(area or crop.area, aspect or crop.aspect)
        views.append(replace(view, crop=crop, flip=view.flip if flip is None else flip))
    if temporal_difference is None:
        temporal_difference = recipe.temporal_difference
    return Recipe(tuple(views), recipe.stats, temporal_difference)
