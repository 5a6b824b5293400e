"""JPEG and PNG images, as videos of one frame.

libjpeg's scaled decoding is not used: it would change pixels by up to 47 of 255 grey levels (2.6 on
average) where torchvision's two resizing paths differ by at most 1.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sce_video.video.errors import DecodeError, decode_errors
from sce_video.video.kinds import IMAGE_MAGIC, refusal_of_image
from sce_video.video.limits import DEFAULT_LIMITS, Limits, check_bytes, check_pixels
from sce_video.video.packets import PacketIndex

_DAMAGED = "damaged image"
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_SCAN = b"\xff\xda"
_END = b"\xd9"
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a segment
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_NO_FRAME = {0xD8, 0xD9, 0xDA}  # a second start, the end, a scan
_MOST_SCANNED = 1 << 32  # pixels times scans: 64 scans of the largest image


def decode(
    data: bytes, numbers: NDArray[np.int64], index: PacketIndex | None = None
) -> list[NDArray[np.uint8]]:
    """Decode an image, as stored (no EXIF rotation, as ``ImageFolder`` does)."""
    if numbers.tolist() != [0]:
        raise DecodeError("ends before frame 1")
    damaged = f"does not decode: {_DAMAGED}"
    if data.startswith(IMAGE_MAGIC[0]):
        check_jpeg(data, DEFAULT_LIMITS, damaged)
        with decode_errors(damaged):
            return [_jpeg(data)]
    with opened_image(data, damaged=damaged) as image:
        return [png_pixels(image)]


@contextmanager
def opened_image(
    data: bytes, limits: Limits = DEFAULT_LIMITS, damaged: str = _DAMAGED
) -> Iterator[Image.Image]:
    """Context: a JPEG or PNG, not decoded yet; what Pillow says against it is an error.

    Raises:
        DecodeError: ``damaged``, or it is of another format or over a limit.
    """
    check_bytes(data, limits)
    if refusal := refusal_of_image(data):
        raise DecodeError(refusal)
    if data.startswith(IMAGE_MAGIC[0]):
        check_jpeg(data, limits, damaged)
    with decode_errors(damaged), warnings.catch_warnings():
        # Odd EXIF, palettes with transparency; the size is judged by our own limit.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG"])
        except Image.DecompressionBombError as error:
            raise DecodeError("image too large") from error
        check_pixels(image.width, image.height, limits, "image")
        yield image


def check_jpeg(data: bytes, limits: Limits, damaged: str) -> None:
    """Refuse a JPEG by its header, as libjpeg finds it, before room is made for its pixels.

    Raises:
        DecodeError: ``damaged`` where there is no frame, too many pixels, or so many scans (each
            goes over all of them) that decoding would not end.
    """
    check_bytes(data, limits)
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker in _FRAMES:
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (3, 5))
            check_pixels(width, height, limits, "image")
            most = _MOST_SCANNED // max(1, width * height)
            # The quick count takes in what lies behind the image, such as a phone's video.
            if data.count(_SCAN) > most and _scans(data, found.start()) > most:
                raise DecodeError("an image of too many scans")
            return
        if marker in _NO_FRAME:
            break
        if marker not in _ALONE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    raise DecodeError(damaged)


def _scans(data: bytes, at: int) -> int:
    """Scans of a JPEG from a marker on, up to its end."""
    scans = 0
    while (found := _MARKER.search(data, at)) and found[1] != _END:
        at, scans = found.end(), scans + (found[1] == _SCAN[1:])
        if found[1][0] not in _ALONE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return scans


def _jpeg(data: bytes) -> NDArray[np.uint8]:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg  # 25% faster than Pillow, equal pixels

    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    image: NDArray[np.uint8] = decode_jpeg(encoded, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()
    return image


def png_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """``[H,W,3]`` of a PNG: of an animated one the first picture, without transparency, as
    ``ImageFolder`` does.

    torchvision's decoder fails in a process that used decord ("bad parameters to zlib").
    """
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip at 255
        # The high byte, as Pillow does with 16-bit colours, and libpng and torchvision too.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
