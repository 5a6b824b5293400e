"""Which images pass, and what they are found to be."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from sce_video.video.examine_image import examine_image
from sce_video.video.facts import Limits, Rejected
from tests.videos import moving_square


def test_images(picture: Path, noise: bytes) -> None:
    data = picture.read_bytes()
    found = examine_image(data)
    assert (found.ext, found.codec, found.width, found.height) == ("jpg", "jpeg", 40, 30)
    assert (found.frames, found.fps, found.duration) == (1, 0.0, 0.0)
    for damaged in (data[: len(data) // 2], noise, b"<html>"):
        with pytest.raises(Rejected, match="damaged image"):
            examine_image(damaged)
    with pytest.raises(Rejected, match="empty file"):
        examine_image(b"")
    with pytest.raises(Rejected, match="image too large"):
        examine_image(data, Limits(pixels=1199))


def test_awkward_images() -> None:
    """ImageNet holds a PNG called .JPEG and CMYK JPEGs; a GIF is no member of any set."""
    image = Image.fromarray(moving_square(1, 30, 40)[0])
    for form, mode, ext in (("PNG", "RGB", "png"), ("JPEG", "CMYK", "jpg"), ("JPEG", "L", "jpg")):
        data = io.BytesIO()
        image.convert(mode).save(data, form)
        assert examine_image(data.getvalue()).ext == ext
    data = io.BytesIO()
    image.save(data, "GIF")
    with pytest.raises(Rejected, match="damaged image"):
        examine_image(data.getvalue())
