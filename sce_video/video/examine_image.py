"""The door for images: each is decoded once, completely, before a shard is written."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from sce_video.video.facts import DEFAULT_LIMITS, Facts, Limits, Rejected, check_size

_IMAGES = {"JPEG": ("jpg", "jpeg"), "MPO": ("jpg", "jpeg"), "PNG": ("png", "png")}
"""Pillow's names -> extension and codec; MPO is a JPEG with a second picture behind it."""


@contextmanager
def opened_image(data: bytes) -> Iterator[Image.Image]:
    """Context: a JPEG or PNG, not decoded yet; what Pillow says against it is a rejection."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF; the size is judged by our own limit
            image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG"])
        yield image
    except Image.DecompressionBombError as error:
        raise Rejected("image too large") from error
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
        raise Rejected("damaged image") from error


def examine_image(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Facts:
    """Decode a JPEG or PNG completely. Width and height are as stored (no EXIF rotation).

    Args:
        data: the whole file.
        limits: what it may cost.

    Raises:
        Rejected: it is damaged, of another format, or over a limit.
    """
    check_size(data, limits)
    with opened_image(data) as image:
        width, height = image.size
        if width * height > limits.pixels:
            raise Rejected("image too large")
        ext, codec = _IMAGES[image.format or ""]
        image.load()
    return Facts(ext, codec, 1, 0.0, width, height, 0.0)
