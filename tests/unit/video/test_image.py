"""Pixels of pictures of every kind: what was written into them."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sce_video.video.decode import DecodeError, decode_frames
from sce_video.video.examine_image import examine_image
from sce_video.video.facts import Rejected
from sce_video.video.peek import peek
from tests.pictures import CHANNELS, DEPTHS, encoded, write_png


def pixels(data: bytes) -> NDArray[np.uint8]:
    [frame] = decode_frames(data, [0])
    assert frame.dtype == np.uint8
    return frame


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(("kind", "depth"), [(k, d) for k in DEPTHS for d in DEPTHS[k]])
def test_pngs(kind: int, depth: int, transparent: bool, interlaced: bool) -> None:
    """Samples are scaled to 8 bits, of 16 the high byte; transparency is dropped."""
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 1 << depth, (13, 17, CHANNELS[kind]))
    palette = rng.integers(0, 256, (1 << depth, 3), dtype=np.uint8)
    before = [(b"PLTE", palette.tobytes())] if kind == 3 else []
    if transparent and kind not in (4, 6):
        colour = samples[0, 0].astype(">u2").tobytes()
        before.append((b"tRNS", bytes(range(1 << depth)) if kind == 3 else colour))
    data = write_png(samples, kind, depth, interlaced=interlaced, before=before)
    colours = samples[..., :3] if kind in (2, 6) else samples[..., :1].repeat(3, axis=2)
    scaled = colours >> 8 if depth == 16 else colours * 255 // ((1 << depth) - 1)
    expected = palette[samples[..., 0]] if kind == 3 else scaled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(pixels(data), expected)
        found = examine_image(data)
    assert (found.ext, found.width, found.height) == ("png", 17, 13)


def test_a_ramp_of_16_bits() -> None:
    """As Pillow writes one; its mean is that of a ramp."""
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (64, 1))
    data = encoded(Image.fromarray(ramp), "PNG")
    np.testing.assert_array_equal(pixels(data)[0, :, 0], np.arange(256))
    assert pixels(data).mean() == 127.5


def test_16_bits_are_torchvisions() -> None:
    """Scaled to 8 bits by its own function they are the same."""
    import torch
    from torchvision.transforms.v2.functional import to_dtype

    for kind in (0, 2, 6):
        samples = np.random.default_rng(kind).integers(0, 1 << 16, (13, 17, CHANNELS[kind]))
        sixteen = torch.from_numpy(samples[..., : CHANNELS[kind] // 3 * 3 or 1].astype(np.uint16))
        eight = to_dtype(sixteen, torch.uint8, scale=True).numpy()
        found = pixels(write_png(samples, kind, 16))
        np.testing.assert_array_equal(found, np.broadcast_to(eight, found.shape))


def test_of_an_animation_the_first_picture_is_read() -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert b"acTL" in data
    assert (pixels(data) == (255, 0, 0)).all()
    apart = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True)
    assert (pixels(apart) == (255, 0, 0)).all()
    assert examine_image(data).frames == examine_image(apart).frames == 1


def test_exif_turns_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = Image.fromarray(np.arange(600, dtype=np.uint8).reshape(10, 20, 3))
    for form in ("JPEG", "PNG"):
        turned = pixels(encoded(plain, form, exif=exif))
        np.testing.assert_array_equal(turned, pixels(encoded(plain, form)))
        assert turned.shape == (10, 20, 3)


def test_an_image_has_one_frame_and_may_be_damaged() -> None:
    data = encoded(Image.new("RGB", (20, 10)))
    with pytest.raises(DecodeError, match="ends before frame 1"):
        decode_frames(data, [0, 1])
    for form in ("JPEG", "PNG"):
        data = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), form)
        with pytest.raises(DecodeError, match="damaged image"):
            decode_frames(data[: len(data) // 2], [0])
    assert Image.open(io.BytesIO(data)).size == (64, 64)


def in_jpeg(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header says another size."""
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


JPEG = encoded(Image.new("RGB", (64, 48)))
PROGRESSIVE = encoded(Image.new("RGB", (64, 48)), progressive=True)
PIXEL = np.zeros((1, 1, 3), np.int64)
HUGE = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
TOO_LARGE = {
    "jpeg": in_jpeg(JPEG, 36_000, 30_000),
    "progressive": in_jpeg(PROGRESSIVE, 65_535, 65_535),
    "just too large": in_jpeg(JPEG, 8192, 8193),
    "behind what is no segment": in_jpeg(JPEG[:2] + b"\xff\xe0\0\2junk" + JPEG[2:], 36_000, 30_000),
    "behind fill bytes": in_jpeg(JPEG[:2] + b"\xff" * 9 + JPEG[2:], 36_000, 30_000),
    "png with two headers": write_png(PIXEL, 2, 8, before=[(b"IHDR", HUGE)]),
}


@pytest.mark.parametrize("data", TOO_LARGE.values(), ids=TOO_LARGE)
def test_the_header_says_the_size_before_room_is_made(data: bytes) -> None:
    for read in (peek, pixels):
        with pytest.raises(DecodeError, match=r"^image too large$"):
            read(data)
    with pytest.raises(Rejected):
        examine_image(data)


def test_two_frames_of_a_jpeg_are_refused() -> None:
    at = JPEG.index(b"\xff\xc0")
    frame = JPEG[at : at + 19]
    twice = JPEG[:at] + frame + in_jpeg(frame, 40_000, 40_000) + JPEG[at + 19 :]
    for read, why in ((pixels, "does not decode: damaged image"), (examine_image, "damaged image")):
        with pytest.raises(DecodeError, match=rf"^{why}$"):
            read(twice)


def test_scans_are_bounded_by_what_they_go_over() -> None:
    """Each is a few bytes, and goes over all pixels."""
    at = PROGRESSIVE.rindex(b"\xff\xda")
    scan = PROGRESSIVE[at:-2]

    def scans(count: int, side: int) -> bytes:
        data = in_jpeg(PROGRESSIVE, side, side)
        return data[:-2] + scan * count + data[-2:]

    many = scans(5_000, 8192)
    assert len(many) < 100_000
    for read in (peek, pixels, examine_image):
        with pytest.raises(DecodeError, match=r"^an image of too many scans$"):
            read(many)
    assert pixels(scans(500, 64)).shape == (64, 64, 3)
    assert peek(scans(20, 8192)).width == 8192


def test_what_lies_behind_an_image_has_no_scans() -> None:
    """Phones append a video."""
    behind = in_jpeg(PROGRESSIVE, 8192, 8192) + b"\xff\xda\0\2" * 100
    assert peek(behind).width == 8192


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
def test_texts_of_a_png_are_not_unpacked_without_bounds(kind: bytes) -> None:
    head = b"x\0\1\0\0\0" if kind == b"iTXt" else b"x\0\0"
    bomb = (kind, head + zlib.compress(bytes(1 << 26)))
    data = write_png(PIXEL, 2, 8, before=[bomb])
    for read in (peek, pixels, examine_image):
        with pytest.raises(DecodeError, match=r"damaged image$"):
            read(data)
