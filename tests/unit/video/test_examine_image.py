"""Which images pass, and what they are found to be."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sce_video.video.examine_image import examine_image
from sce_video.video.facts import Rejected
from sce_video.video.limits import Limits
from tests.conftest import REPOSITORY
from tests.pictures import DAMAGES, damage, encoded, write_png
from tests.videos import moving_square


def reason(data: bytes) -> str:
    with pytest.raises(Rejected) as caught:
        examine_image(data)
    return str(caught.value)


def image(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(moving_square(1, 30, 40)[0]).convert(mode)


def test_images(picture: Path, noise: bytes) -> None:
    data = picture.read_bytes()
    found = examine_image(data)
    assert (found.ext, found.codec, found.width, found.height) == ("jpg", "jpeg", 40, 30)
    assert (found.frames, found.fps, found.duration) == (1, 0.0, 0.0)
    assert reason(data[: len(data) // 2]) == "cut off"
    assert reason(data[:2] + noise) == "no readable JPEG or PNG file"
    assert reason(data[:30] + noise) == "damaged image"
    assert reason(noise) == "no readable JPEG or PNG file"
    assert reason(b"") == "empty file"
    with pytest.raises(Rejected, match="image too large"):
        examine_image(data, Limits(pixels=1199))


@pytest.mark.parametrize(
    ("form", "mode", "ext"),
    [("PNG", "RGB", "png"), ("JPEG", "CMYK", "jpg"), ("JPEG", "L", "jpg"), ("MPO", "RGB", "jpg")],
)
def test_awkward_images(form: str, mode: str, ext: str) -> None:
    """ImageNet holds a PNG called .JPEG and CMYK JPEGs; phones put a second picture behind."""
    assert examine_image(encoded(image(mode), form)).ext == ext


@pytest.mark.parametrize("form", ["GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"])
def test_others_are_named(form: str) -> None:
    name = {"WEBP": "a WebP", "AVIF": "an AVIF", "JPEG2000": "a JPEG 2000", "PPM": "a PNM"}
    if form == "AVIF" and not Image.registered_extensions().get(".avif"):
        pytest.skip("this Pillow writes no AVIF")
    why = f"{name.get(form, f'a {form}')} image: only JPEG and PNG are read"
    assert reason(encoded(image(), form)) == why


def test_the_page_shows_how_others_are_named() -> None:
    page = (REPOSITORY / "shards" / "README.md").read_text()
    assert "`a WebP image: only JPEG and PNG are read`" in page
    assert "`no readable JPEG or PNG file`" in page


def test_exif_is_told_and_not_applied() -> None:
    """As torchvision's ``ImageFolder``, and so as every published figure of ImageNet."""
    exif = Image.Exif()
    for turn in range(1, 9):
        exif[0x0112] = turn
        for form in ("JPEG", "PNG"):
            found = examine_image(encoded(image(), form, exif=exif))
            assert (found.width, found.height, found.exif_orientation) == (
                40,
                30,
                turn if turn > 1 else 0,
            )
    exif[0x0112] = 99
    assert examine_image(encoded(image(), exif=exif)).exif_orientation == 0
    data = encoded(image(), exif=exif)
    at = data.index(b"Exif")
    assert examine_image(data[: at + 8] + bytes(10) + data[at + 18 :]).exif_orientation == 0


def test_damage_to_a_png_is_found() -> None:
    """Each chunk has a sum."""
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 256, (60, 50, 3))
    data = write_png(samples, 2, 8, before=[(b"tEXt", b"a\0b")], behind=[(b"tEXt", b"c\0d")])
    examine_image(data)
    examine_image(data + b"behind its end")
    for kind in DAMAGES * 20:
        hurt = damage(data, kind, 8, rng)
        assert hurt == data or reason(hurt) in ("cut off", "damaged image")
    assert reason(data[:-12]) == reason(data[:-1]) == "cut off"


def test_what_is_odd_in_a_file_is_no_reason() -> None:
    """A palette with transparency, comments, profiles: nothing is said, and all is read."""
    palette = image("P")
    for data in (
        encoded(palette, "PNG", transparency=bytes(range(9))),
        encoded(image(), comment=b"x" * 999),
        encoded(image(), icc_profile=b"no profile"),
    ):
        assert examine_image(data).width == 40
    assert Image.open(io.BytesIO(encoded(palette, "PNG"))).mode == "P"
