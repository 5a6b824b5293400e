"""The trunks: one row each, from which everything that names a trunk is derived.

A new trunk takes a row here, a builder below :mod:`sce_video.model.trunks`, a config and a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Input(NamedTuple):
    """What a trunk's published weights took, which a file of weights does not say."""

    frames: int  # of a clip; 1 for images
    seconds: float  # that a clip spans; 0 for images
    size: int  # side of a training crop, pixels
    recipe: str  # of augmentation, whose mean and std normalise


@dataclass(frozen=True)
class Trunk:
    """What is known of a trunk without building it."""

    features: int  # width of its output, at width 64
    parameters: int  # without a classifier, at width 64
    module: str  # below sce_video.model.trunks, which holds a builder of the trunk's name
    whose: Literal["torchvision", "pytorchvideo"]  # the layers, and their names, that it has
    same: bool  # they have the very same network, at width 64
    input: Input | None = None  # None: weights of others are not known
    images: bool = False  # 2-D: takes a clip frame by frame, and averages over the frames


_CLIP = Input(8, 2.56, 224, "crop_flip")  # SCE's runs
_LONG_CLIP = Input(16, 2.56, 224, "crop_flip")
_DENSE_CLIP = Input(16, 16 / 15, 112, "crop_flip")  # torchvision's: 15 frames a second
_IMAGE = Input(1, 0.0, 224, "imagenet_two_view")
_TINY = Input(1, 0.0, 32, "cifar_weak_strong")

TRUNKS = {
    "r3d_18": Trunk(512, 20_023_872, "r3d", "pytorchvideo", False, _CLIP),
    "r3d_50": Trunk(2048, 31_634_496, "r3d", "pytorchvideo", True, _CLIP),
    "r2plus1d_18": Trunk(512, 31_300_125, "r2plus1d", "torchvision", True, _DENSE_CLIP),
    "r2plus1d_18_small": Trunk(512, 31_304_349, "r2plus1d", "torchvision", False),
    "r2plus1d_50": Trunk(2048, 27_288_000, "r3d", "pytorchvideo", True, _LONG_CLIP),
    "resnet18": Trunk(512, 11_176_512, "resnet", "torchvision", True, _IMAGE, images=True),
    "resnet18_small": Trunk(512, 11_168_832, "resnet", "torchvision", False, _TINY, images=True),
    "resnet50": Trunk(2048, 23_508_032, "resnet", "torchvision", True, _IMAGE, images=True),
}
"""Value of ``model.trunk`` -> what it is."""
