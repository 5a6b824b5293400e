"""Which part of a frame makes a view. Pure functions, no pixels.

Boxes are ``(top, left, height, width)`` in pixels; random crops take their numbers from outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
Size = tuple[int, int]  # height, width

DRAWS = 40
"""Numbers in [0,1) that a random crop may take."""


class Crop(Protocol):
    """A rule that cuts a square view of side ``size`` out of frames of ``height x width``."""

    def __call__(
        self, height: int, width: int, size: int, u: NDArray[np.float64]
    ) -> tuple[Box, Size | None]:
        """The box to cut, and what the whole frame is resized to before (None = as it is).

        The box is then resized to ``size x size``. ``u``: :data:`DRAWS` numbers in [0,1).
        """


@dataclass(frozen=True)
class RandomResizedCrop:
    """A box whose area is a uniform share of the frame and whose aspect is log-uniform.

    Ten tries, then the largest centred box within ``aspect``, as torchvision does.
    """

    area: tuple[float, float]  # share of the frame
    aspect: tuple[float, float] = (3 / 4, 4 / 3)  # width / height

    def __call__(
        self, height: int, width: int, size: int, u: NDArray[np.float64]
    ) -> tuple[Box, None]:
        """See :class:`Crop`."""
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        for a, r, y, x in u.reshape(10, 4).tolist():
            pixels = height * width * (self.area[0] + a * (self.area[1] - self.area[0]))
            ratio = math.exp(low + r * (high - low))
            w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
            if 0 < w <= width and 0 < h <= height:
                return (int(y * (height - h + 1)), int(x * (width - w + 1)), h, w), None
        return self._centre(height, width), None

    def _centre(self, height: int, width: int) -> Box:
        w, h = width, height
        if width / height < self.aspect[0]:
            h = round(width / self.aspect[0])
        elif width / height > self.aspect[1]:
            w = round(height * self.aspect[1])
        return (height - h) // 2, (width - w) // 2, h, w


@dataclass(frozen=True)
class RandomCrop:
    """The frame at a random short side, then a square anywhere in it: training of the heads."""

    short: tuple[float, float] = (8 / 7, 10 / 7)  # of ``size``: 256 to 320 for 224

    def __call__(
        self, height: int, width: int, size: int, u: NDArray[np.float64]
    ) -> tuple[Box, Size]:
        """See :class:`Crop`."""
        low, high = (round(size * share) for share in self.short)
        scale = short_side(height, width, low + int(u[0] * (high - low + 1)))
        top, left = int(u[1] * (scale[0] - size + 1)), int(u[2] * (scale[1] - size + 1))
        return (top, left, size, size), scale


@dataclass(frozen=True)
class CentreCrop:
    """The frame at a fixed short side, then its centre."""

    short: float = 1.0  # of ``size``; 8/7 = 256 for 224

    def __call__(
        self, height: int, width: int, size: int, u: NDArray[np.float64]
    ) -> tuple[Box, Size]:
        """See :class:`Crop`."""
        scale = short_side(height, width, round(size * self.short))
        return crop_boxes(*scale, size, 1)[0], scale


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
