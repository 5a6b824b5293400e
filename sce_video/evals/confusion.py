"""The confusion matrix as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.ImageFont import load_default

from sce_video.text import printable

_SIDE = 800  # of the matrix where a class has a pixel or more, pixels
_CELL = 40  # a cell's most pixels
_LINE = 14  # a tick's height
_NAME = 24  # letters of a class's name
_TITLE = 120
_MARGIN = 12
_BAR = 16  # width of the colour scale
# Light to dark, so that a grey print keeps the order.
_COLOURS = np.array([(247, 251, 255), (158, 202, 225), (49, 130, 189), (8, 48, 107)], float)
_EMPTY, _INK = (225, 225, 225), (30, 30, 30)


def colour(share: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Shares in [0,1] (NaN = no sample: grey) -> RGB with a new last axis."""
    stops = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(np.nan_to_num(share), stops, channel) for channel in _COLOURS.T]
    rgb: NDArray[np.uint8] = np.stack(channels, -1).round().astype(np.uint8)
    rgb[np.isnan(share)] = _EMPTY
    return rgb


def _text(name: str, size: int = 11) -> Image.Image:
    """A line of text, dark on white, as a picture that can be turned."""
    font = load_default(size)
    right, bottom = (int(x) for x in font.getbbox(name)[2:])
    image = Image.new("RGB", (max(right, 1), max(bottom + 2, _LINE)), "white")
    ImageDraw.Draw(image).text((0, 0), name, fill=_INK, font=font)
    return image


def _short(name: str, longest: int = _NAME) -> str:
    name = printable(name)
    return name if len(name) <= longest else name[: longest - 1] + "…"


def confusion_png(counts: NDArray[np.int64], classes: Sequence[str], title: str) -> bytes:
    """Draw a confusion matrix; rows are shares of their class.

    Args:
        counts: samples by true (row) and predicted class ``[C,C]``.
        classes: their names, C of them; where not all fit, every n-th is written.
        title: above it.

    Returns:
        A PNG file.
    """
    total = counts.sum(1, keepdims=True)
    share = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    cell = max(1, min(_CELL, _SIDE // len(classes)))
    side = cell * len(classes)
    every = math.ceil(_LINE / cell)
    ticks = {i: _text(_short(classes[i])) for i in range(0, len(classes), every)}
    widest = max(tick.width for tick in ticks.values())
    left, top = _MARGIN + _LINE + widest + 8, 44
    heading = _text(_short(title, _TITLE), 16)
    width = max(left + side + 2 * _MARGIN + _BAR + 40, heading.width + 2 * _MARGIN)
    page = Image.new("RGB", (width, top + side + widest + _LINE + 3 * _MARGIN), "white")
    page.paste(heading, (_MARGIN, _MARGIN))
    matrix = Image.fromarray(colour(share)).resize((side, side), Image.Resampling.NEAREST)
    page.paste(matrix, (left, top))
    draw = ImageDraw.Draw(page)
    draw.rectangle((left - 1, top - 1, left + side, top + side), outline=_INK)
    for i, tick in ticks.items():
        middle = i * cell + cell // 2
        draw.line((left - 5, top + middle, left - 2, top + middle), fill=_INK)
        draw.line((left + middle, top + side + 1, left + middle, top + side + 4), fill=_INK)
        page.paste(tick, (left - 7 - tick.width, top + middle - _LINE // 2))
        page.paste(tick.rotate(90, expand=True), (left + middle - _LINE // 2, top + side + 6))
    below = _text("predicted class")
    page.paste(below, (left + (side - below.width) // 2, page.height - below.height - 4))
    beside = _text("true class").rotate(90, expand=True)
    page.paste(beside, (4, top + max(side - beside.height, 0) // 2))
    _scale(page, draw, (left + side + 2 * _MARGIN, top), min(side, 200))
    file = BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def _scale(page: Image.Image, draw: ImageDraw.ImageDraw, at: tuple[int, int], height: int) -> None:
    """The colour scale: share of the true class's samples, 1 at the top."""
    ramp = np.repeat(colour(np.linspace(1, 0, height))[:, None], _BAR, 1)
    page.paste(Image.fromarray(ramp), at)
    page.paste(_text("share"), (at[0], at[1] - _LINE - 4))
    draw.rectangle((at[0] - 1, at[1] - 1, at[0] + _BAR, at[1] + height), outline=_INK)
    for mark in (1.0, 0.5, 0.0):
        place = at[1] + round((1 - mark) * (height - 1)) - _LINE // 2
        page.paste(_text(f"{mark:g}"), (at[0] + _BAR + 5, place))
