"""Pixels of pictures of every kind: what was written into them."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sce_video.video.decode import DecodeError, decode_frames
from sce_video.video.examine_image import examine_image
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
