"""Recipes as tables: which part of a frame, which ops with which probability, a row a view.

Data only: :mod:`sce_video.stream.crops` and :mod:`sce_video.augment` apply them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sce_video.errors import UsageError

Colour = tuple[float, float, float]  # red, green, blue, of pixels in [0,1]

_VIDEO = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


@dataclass(frozen=True)
class RandomResizedCrop:
    """A box whose area is a uniform share of the frame and whose aspect is log-uniform."""

    area: tuple[float, float]  # share of the frame
    aspect: tuple[float, float] = (3 / 4, 4 / 3)  # width / height


@dataclass(frozen=True)
class RandomCrop:
    """The frame at a random short side, then a square anywhere in it: training of the heads."""

    short: tuple[float, float] = (8 / 7, 10 / 7)  # of the view's side: 256 to 320 for 224


Crop = RandomResizedCrop | RandomCrop


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
    """The views of a sample, and what normalises their pixels."""

    views: tuple[ViewRecipe, ...]
    stats: tuple[Colour, Colour]  # mean and std that normalise the pixels
    temporal_difference: float = 0.0  # probability, each view by itself
    labelled: bool = False  # for training with labels, which takes one view

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


_CROP = RandomResizedCrop((0.2, 1.0))
_VIDEO_CROP = RandomResizedCrop((0.2, 0.766))
_IMAGE = ViewRecipe(_CROP, jitter=0.8, strengths=(0.4, 0.4, 0.2, 0.1), gray=0.2, flip=0.5)
_MOCO = replace(_IMAGE, strengths=(0.4, 0.4, 0.4, 0.1), blur=0.5)
_CLIP = replace(_IMAGE, crop=_VIDEO_CROP)
_STRONG_CLIP = replace(_CLIP, strengths=(0.8, 0.8, 0.4, 0.2))
_PLAIN_CLIP = ViewRecipe(_VIDEO_CROP, flip=0.5)
_TRAINED_CLIP = ViewRecipe(RandomCrop(), flip=0.5)
_TUNED_CLIP = replace(_TRAINED_CLIP, jitter=0.8, strengths=(0.4, 0.4, 0.4, 0.1), gray=0.2)
# Multi-crop: small views, their sides in pixels where the base is 224.
_LOCAL_AREAS = {192: (0.172, 0.86), 160: (0.143, 0.715), 128: (0.114, 0.571), 96: (0.086, 0.429)}
_LOCALS = tuple(
    replace(_IMAGE, crop=RandomResizedCrop(area), side=side / 224, blur=0.5, solarize=0.2)
    for side, area in _LOCAL_AREAS.items()
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
    "video_linear": Recipe((_TRAINED_CLIP,), _VIDEO, labelled=True),
    "video_finetune": Recipe((_TUNED_CLIP,), _VIDEO, labelled=True),
    "imagenet_linear": Recipe(
        (ViewRecipe(RandomResizedCrop((0.08, 1.0)), flip=0.5),), _IMAGENET, labelled=True
    ),
}
"""Name -> recipe."""


def recipe_names(*, labelled: bool) -> list[str]:
    """The recipes that train with labels, or those that pretrain."""
    return [name for name, recipe in RECIPES.items() if recipe.labelled == labelled]
