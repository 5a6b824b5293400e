"""Which part of a frame makes a view. Pure functions, no pixels.

Boxes are ``(top, left, height, width)`` in pixels; random crops take their numbers from outside.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sce_video.config.recipes import Crop, RandomResizedCrop

Box = tuple[int, int, int, int]
Size = tuple[int, int]  # height, width

DRAWS = 40
"""Numbers in [0,1) that a random crop may take."""


def random_box(
    crop: Crop, height: int, width: int, size: int, u: NDArray[np.float64]
) -> tuple[Box, Size | None]:
    """The box to cut by a rule, and what the whole frame is resized to before (None = as it is).

    The box is then resized to ``size x size``.

    Args:
        crop: the rule.
        height: of the frame, pixels.
        width: of the frame, pixels.
        size: side of the view, pixels.
        u: :data:`DRAWS` numbers in [0,1).
    """
    if isinstance(crop, RandomResizedCrop):
        return _resized_box(crop, height, width, u), None
    low, high = (round(size * share) for share in crop.short)
    scale = short_side(height, width, low + int(u[0] * (high - low + 1)))
    top, left = int(u[1] * (scale[0] - size + 1)), int(u[2] * (scale[1] - size + 1))
    return (top, left, size, size), scale


def _resized_box(crop: RandomResizedCrop, height: int, width: int, u: NDArray[np.float64]) -> Box:
    """Ten tries, then the largest centred box within ``aspect``, as torchvision does."""
    low, high = math.log(crop.aspect[0]), math.log(crop.aspect[1])
    for a, r, y, x in u.reshape(10, 4).tolist():
        pixels = height * width * (crop.area[0] + a * (crop.area[1] - crop.area[0]))
        ratio = math.exp(low + r * (high - low))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
    w, h = width, height
    if width / height < crop.aspect[0]:
        h = max(1, round(width / crop.aspect[0]))
    elif width / height > crop.aspect[1]:
        w = max(1, round(height * crop.aspect[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def short_side(height: int, width: int, size: int) -> Size:
    """Height and width of the whole frame once its short side is ``size``."""
    if height <= width:
        return size, max(size, int(size * width / height))
    return max(size, int(size * height / width)), size


def crop_boxes(height: int, width: int, size: int, crops: int) -> list[Box]:
    """``crops`` (1 or 3) squares along the longer side: the centre, or start, centre and end."""
    y, x = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    if crops == 1:
        return [(y, x, size, size)]
    if height > width:
        return [(top, x, size, size) for top in (0, y, height - size)]
    return [(y, left, size, size) for left in (0, x, width - size)]
