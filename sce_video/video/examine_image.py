"""The door for images: each is decoded once, completely, before a shard is written."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from sce_video.video.decode.image import decode
from sce_video.video.errors import DecodeError
from sce_video.video.facts import DEFAULT_LIMITS, Facts, Limits, Rejected, check_size
from sce_video.video.jpeg import check_scans, parse_jpeg
from sce_video.video.kinds import IMAGE_MAGIC, refusal_of_image

_IMAGES = {"JPEG": ("jpg", "jpeg"), "MPO": ("jpg", "jpeg"), "PNG": ("png", "png")}
"""Pillow's names -> extension and codec; MPO is a JPEG with a second picture behind it."""


@contextmanager
def opened_image(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Iterator[Image.Image]:
    """Context: a JPEG or PNG, not decoded yet; what Pillow says against it is a rejection.

    Raises:
        Rejected: it is damaged, of another format, or over the limit of pixels.
    """
    if refusal := refusal_of_image(data):
        raise Rejected(refusal)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF; the size is judged by our own limit
            image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG"])
        if image.width * image.height > limits.pixels:
            raise Rejected("image too large")
        yield image
    except Image.DecompressionBombError as error:
        raise Rejected("image too large") from error
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
        raise Rejected("damaged image") from error


def examine_image(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Facts:
    """Decode a JPEG or PNG completely. Width and height are as stored (no EXIF rotation).

    A PNG is decoded by what reads it later. A JPEG is decoded by Pillow, which needs no torch; what
    its decoder, which is that of reading, conceals is looked for by :func:`check_scans`.

    Args:
        data: the whole file.
        limits: what it may cost.

    Raises:
        Rejected: it is damaged, of another format, or over a limit.
    """
    check_size(data, limits)
    jpeg = parse_jpeg(data) if data.startswith(IMAGE_MAGIC[0]) else None
    with opened_image(data, limits) as image:
        ext, codec = _IMAGES[image.format or ""]
        (width, height), orientation = image.size, _orientation(image)
        if jpeg:
            image.draft("RGB", (1, 1))  # the codes are the same, and pixels take half of the time
            image.load()
            check_scans(jpeg)
    if not jpeg:
        _check_chunks(data)
        try:
            decode(data, np.zeros(1, np.int64))
        except DecodeError as error:
            raise Rejected("damaged image") from error
    return Facts(ext, codec, 1, 0.0, width, height, 0.0, exif_orientation=orientation)


def _orientation(image: Image.Image) -> int:
    """What EXIF says of how the picture is to be turned, 2 to 8; 0 = not, or nothing readable."""
    if "exif" not in image.info:
        return 0
    try:
        value = image.getexif().get(Base.Orientation, 1)
    except Exception:  # noqa: BLE001 (a damaged tag is no reason against the picture)
        return 0
    return value if value in range(2, 9) else 0


def _check_chunks(data: bytes) -> None:
    """Refuse a PNG with a chunk that is not whole: Pillow looks at the sums of some only."""
    at, kind = 8, b""
    while kind != b"IEND":
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + size
        if end > len(data):
            raise Rejected("cut off")
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise Rejected("damaged image")
        at = end
