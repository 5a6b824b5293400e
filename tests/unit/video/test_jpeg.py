"""Whole JPEGs of every make pass, and what damage is found in those that are not."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sce_video.video.decode.image import decode
from sce_video.video.examine_image import examine_image
from sce_video.video.facts import Rejected
from sce_video.video.jpeg import check_scans, parse_jpeg
from tests.pictures import DAMAGES, damage, encoded

MAKES: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimised": {"optimize": True},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "finest": {"subsampling": 0, "quality": 100},
    "coarse": {"quality": 5},
    "restarts a row": {"restart_marker_rows": 1},
    "restarts 5 blocks": {"restart_marker_blocks": 5},
    "more than all blocks": {"restart_marker_blocks": 60_000},
    "progressive": {"progressive": True},
    "progressive restarts": {"progressive": True, "restart_marker_blocks": 5},
    "rgb": {"keep_rgb": True},
}


def scene(size: tuple[int, int] = (201, 133)) -> Image.Image:
    """A picture of noise on slopes, so that its blocks are long and short."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    slopes = np.stack([x + y, 2 * x - y, y], -1) % 256
    noise = rng.normal(0, 1, slopes.shape) * (x[..., None] % 40)
    return Image.fromarray((slopes + noise).clip(0, 255).astype(np.uint8))


def reason(data: bytes) -> str:
    try:
        examine_image(data)
    except Rejected as rejected:
        return str(rejected)
    return ""


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_whole_ones_pass_and_read_as_pillow_has_them(make: str, mode: str) -> None:
    for size in ((201, 133), (64, 64), (8, 8), (1, 1), (3, 300)):
        if mode != "RGB" and make == "rgb":
            return
        data = encoded(scene(size).convert(mode), **MAKES[make])
        check_scans(parse_jpeg(data))
        check_scans(parse_jpeg(data + b"\0" * 999))  # what is behind the end is none of it
        [pixels] = decode(data, np.zeros(1, np.int64))
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("adobe", [None, 0, 2])
def test_inks_are_read_as_pillow_has_them(adobe: int | None) -> None:
    """CMYK with and without Adobe's marker, which inverts them, and YCCK."""
    data = encoded(scene().convert("CMYK"))
    at = data.index(b"\xff\xee")
    size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    transform = b"" if adobe is None else data[at : at + size - 1] + bytes([adobe])
    data = data[:at] + transform + data[at + size :]
    examine_image(data)
    [pixels] = decode(data, np.zeros(1, np.int64))
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_blocks_of_few_bits_pass(colour: str) -> None:
    for size in ((8, 8), (16, 16), (17, 5), (2000, 8), (500, 500)):
        for make in MAKES.values():
            check_scans(parse_jpeg(encoded(Image.new("RGB", size, colour), **make)))


def test_a_restart_at_the_end_passes() -> None:
    data = encoded(scene(), restart_marker_rows=1)
    count = -(-133 // 16) - 1
    check_scans(parse_jpeg(data[:-2] + bytes([0xFF, 0xD0 + count % 8]) + data[-2:]))


def test_cut_ones() -> None:
    data = encoded(scene())
    scan = data.index(b"\xff\xda")
    assert reason(data[:-2]) == reason(data[: scan + 500]) == "cut off"
    assert reason(data[: scan + 500].ljust(len(data), b"\0")) == "cut off"
    assert reason(data[:scan]) in ("cut off", "damaged image")
    progressive = encoded(scene(), progressive=True)
    assert reason(progressive[: len(progressive) // 2]) == "cut off"


def test_ends_that_were_put_on() -> None:
    """A cut one whose end a tool has mended, and one with more than it needs."""
    data = encoded(scene())
    for make in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        data = encoded(scene(), **make)
        assert reason(data[: len(data) * 2 // 3] + b"\xff\xd9") == "damaged image"
    data = encoded(scene())
    scan = data.index(b"\xff\xda") + 14
    assert reason(data[:-2] + data[scan : scan + 60] + b"\xff\xd9") == "damaged image"
    taller = data.replace((133).to_bytes(2, "big"), (149).to_bytes(2, "big"), 1)
    assert Image.open(io.BytesIO(taller)).height == 149
    assert reason(taller) == "damaged image"


def test_lost_and_doubled_restarts() -> None:
    data = encoded(scene(), restart_marker_rows=1)
    first, second = data.index(b"\xff\xd0"), data.index(b"\xff\xd1")
    for wrong in (
        data[:first] + data[second:],
        data[:second] + data[first:],
        data[:first] + b"\xff\xd1" + data[first + 2 :],
        data[:second] + data[second + 2 :],
    ):
        assert reason(wrong) == "damaged image"


@pytest.mark.parametrize("frame", [0xC3, 0xC9, 0xCA])
def test_kinds_that_decoders_do_not_agree_on(frame: int) -> None:
    data = encoded(scene())
    at = data.index(b"\xff\xc0")
    other = data[: at + 1] + bytes([frame]) + data[at + 2 :]
    with pytest.raises(Rejected, match="a JPEG of 12 bits, lossless or arithmetic"):
        parse_jpeg(other)
    twelve = data[: at + 4] + b"\x0c" + data[at + 5 :]
    assert reason(twelve) == "a JPEG of 12 bits, lossless or arithmetic"


def found_share(
    files: list[bytes], rounds: int, seen: Callable[[bytes], None]
) -> dict[str, Counter[str]]:
    """Of each damage, how many were made, found, and left the pixels as they are."""
    rng = np.random.default_rng(0)
    table = {kind: Counter[str]() for kind in DAMAGES}
    for data in files:
        assert reason(data) == ""
        [whole] = decode(data, np.zeros(1, np.int64))
        start = data.index(b"\xff\xda") + 14
        for kind in DAMAGES * rounds:
            hurt = damage(data, kind, start, rng)
            table[kind]["made"] += 1
            if reason(hurt):
                table[kind]["found"] += 1
                continue
            seen(hurt)
            [pixels] = decode(hurt, np.zeros(1, np.int64))
            table[kind]["same pixels"] += np.array_equal(pixels, whole)
    return table


def same_as_pillow(data: bytes) -> None:
    """What the door accepts is read, and gives the pixels that it saw."""
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    [pixels] = decode(data, np.zeros(1, np.int64))
    np.testing.assert_array_equal(pixels, expected)


def test_damage_is_found() -> None:
    files = [encoded(scene(), **make) for make in MAKES.values()]
    table = found_share(files, 2, same_as_pillow)
    for kind in ("cut", "zeros"):
        assert table[kind]["found"] == table[kind]["made"]
    assert table["hole of 4096"]["found"] >= 0.9 * table["hole of 4096"]["made"]
    assert table["hole of 200"]["found"] >= 0.7 * table["hole of 200"]["made"]


@pytest.mark.soak
@pytest.mark.parametrize("folder", ["imagenet/train", "tiny-imagenet/train"])
@pytest.mark.parametrize("make", ["as they are", "restarts a row", "progressive"])
def test_damage_to_real_images(
    real_data: Path, folder: str, make: str, record_property: Callable[[str, object], None]
) -> None:
    paths = sorted((real_data / folder).glob("*/*.JPEG"))
    if not paths:
        pytest.skip(f"no images in {real_data / folder}")
    files = [path.read_bytes() for path in paths[:: max(1, len(paths) // 200)]]
    if make != "as they are":
        images = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
        files = [encoded(image, quality=90, **MAKES[make]) for image in images]
    table = found_share(files, 4, same_as_pillow)
    for kind, counts in table.items():
        record_property(kind, f"{counts['found']} of {counts['made'] - counts['same pixels']}")
    assert all(table[kind]["found"] == table[kind]["made"] for kind in ("cut", "zeros"))


@pytest.mark.soak
def test_real_images_all_pass(real_data: Path) -> None:
    for path in real_data.glob("*imagenet/*/*/*.JPEG"):
        data = path.read_bytes()
        assert reason(data) == "", path
        same_as_pillow(data)
