"""What torchvision v2 makes of a clip with the parameters that were drawn for it."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sce_video.augment.parameters import ViewParams
from sce_video.config.recipes import ViewRecipe

_JITTER = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


def torchvision_colour(clip: Tensor, params: ViewParams, row: int, view: ViewRecipe) -> Tensor:
    """One clip ``[T,3,S,S]``, uint8 or float, as the augmenter makes it; not normalised."""
    if params.jitter[row]:
        for op in params.order[row]:
            clip = _JITTER[op](clip, float(params.factors[row, op]))
    if params.gray[row]:
        clip = tv.rgb_to_grayscale(clip, 3)
    if params.blur[row]:
        clip = tv.gaussian_blur(clip, [view.kernel] * 2, [float(params.sigma[row])] * 2)
    if params.solarize[row]:
        clip = tv.solarize(clip, 0.5 if clip.is_floating_point() else 128)
    return tv.horizontal_flip(clip) if params.flip[row] else clip
