"""A peek is what a full decode finds."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sce_video.video.errors import DecodeError
from sce_video.video.examine import examine_video
from sce_video.video.facts import Video
from sce_video.video.peek import peek
from tests.odd_videos import KINDS
from tests.pictures import encoded, write_png
from tests.videos import moving_square

ODD = ["b-frames", "vfr", "edit list", "turned 90", "mpeg-4 b avi", "mpeg-1", "vp9", "annex b"]


@pytest.mark.parametrize("kind", ODD)
def test_a_peek_is_what_a_full_decode_finds(tmp_path: Path, kind: str) -> None:
    data = KINDS[kind](tmp_path).read_bytes()
    found, known = peek(data), examine_video(data)
    assert (found.height, found.width) == (known.height, known.width)
    assert known.frames - 1 <= found.frames <= known.frames
    assert found.fps == pytest.approx(known.fps, rel=0.03)


def test_a_peek_at_no_video() -> None:
    for data, why in ((b"", "empty file"), (b"<html>" * 100, "no readable MP4")):
        with pytest.raises(DecodeError, match=why):
            peek(data)


def test_a_peek_at_real_videos(real_data: Path) -> None:
    """None has fewer frames than is said: a clip of its end would not decode."""
    paths = sorted(p for s in ("avi", "mp4") for p in (real_data / "hmdb51").rglob(f"*.{s}"))
    paths += sorted((real_data / "kinetics400").rglob("*.mp4"))[:2]
    for path in paths:
        data = path.read_bytes()
        found, known = peek(data), examine_video(data)
        assert (found.height, found.width) == (known.height, known.width), path
        assert known.frames - 1 <= found.frames <= known.frames, path
        np.testing.assert_allclose(found.fps, known.fps, rtol=0.03)


@pytest.mark.parametrize("form", ["WEBP", "AVIF", "GIF", "TIFF"])
def test_a_peek_at_another_image(form: str) -> None:
    """FFmpeg would take an AVIF for a video."""
    data = encoded(Image.new("RGB", (64, 48)), form)
    with pytest.raises(DecodeError, match="image: only JPEG and PNG are read"):
        peek(data)


def test_a_peek_at_a_picture_that_is_too_large() -> None:
    data = write_png(np.zeros((1, 1, 1), np.int64), 0, 8)
    header = b"IHDR" + (9000).to_bytes(4, "big") * 2 + data[24:29]
    huge = data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
    with pytest.raises(DecodeError, match="image too large"):
        peek(huge)


def test_a_peek_at_an_image() -> None:
    buffer = io.BytesIO()
    Image.fromarray(moving_square(1, 40, 60)[0]).save(buffer, "JPEG", quality=95)
    jpeg = buffer.getvalue()
    assert peek(jpeg) == Video(1, 0.0, 40, 60)
    with pytest.raises(DecodeError, match="damaged image"):
        peek(jpeg[:3] + b"nothing")
