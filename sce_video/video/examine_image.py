"""The door for images: each is decoded once, completely, before a shard is written."""

from __future__ import annotations

import zlib

from PIL import Image
from PIL.ExifTags import Base

from sce_video.video.decode.image import opened_image, png_pixels
from sce_video.video.facts import Facts, Rejected, rejections
from sce_video.video.jpeg import check_scans, parse_jpeg
from sce_video.video.kinds import IMAGE_MAGIC
from sce_video.video.limits import DEFAULT_LIMITS, Limits, check_bytes

_IMAGES = {"JPEG": ("jpg", "jpeg"), "MPO": ("jpg", "jpeg"), "PNG": ("png", "png")}
"""Pillow's names -> extension and codec; MPO is a JPEG with a second picture behind it."""


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
    with rejections("damaged image"):
        check_bytes(data, limits)
        jpeg = parse_jpeg(data) if data.startswith(IMAGE_MAGIC[0]) else None
        with opened_image(data, limits) as image:
            ext, codec = _IMAGES[image.format or ""]
            (width, height), orientation = image.size, _orientation(image)
            if jpeg:
                # The codes are the same, and pixels take half of the time.
                image.draft("RGB", (1, 1))
                image.load()
                check_scans(jpeg)
            else:
                _check_chunks(data)
                png_pixels(image)
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
