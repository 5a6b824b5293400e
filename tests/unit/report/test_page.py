"""What the page takes in: text, numbers, pictures."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sce_video.report.page import picture_uri, render


def data_of(page: str) -> Any:
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def test_no_text_turns_or_controls_anything() -> None:
    evil = "a\x1b]0;owned\x07\u202egpj.exe\u2066\x9b\r\u2028\udcff\n\x00"
    shown = "a\\x1b]0;owned\\x07\\u202egpj.exe\\u2066\\x9b\\r\\u2028\\xff\n\\x00"
    page = render({"title": evil, "rows": [{"name": evil}]}, {})
    assert data_of(page) == {"title": shown, "rows": [{"name": shown}]}
    title = page.partition("<title>")[2].partition("</title>")[0]
    assert (
        title == "a\\x1b]0;owned\\x07\\u202egpj.exe\\u2066\\x9b\\r\\u2028\\xff\\n\\x00 · sce-video"
    )
    page.encode()


def test_what_is_not_finite_is_nothing() -> None:
    values = [float("nan"), float("-inf"), 1e308, 2**63, True, None, (1,)]
    assert data_of(render({"title": "", "x": values}, {}))["x"] == [None, None, *values[2:6], [1]]


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of grey, whose header says this size, with other chunks and no picture."""
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in (head, *chunks, (b"IEND", b"")):
        parts += [struct.pack(">I", len(data)), kind, data]
        parts.append(struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)


def as_format(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", (8, 8), np.random.default_rng(0).bytes(192)).save(buffer, kind)
    return buffer.getvalue()


BOMB = zlib.compress(bytes(1 << 26))
PICTURES = {
    "nothing": b"",
    "html": b"<html><script>alert(1)</script>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1/x'/></svg>",
    "jpeg": as_format("JPEG"),
    "gif": as_format("GIF"),
    "head alone": png(8, 8),
    "36000 x 30000": png(36000, 30000, (b"IDAT", BOMB)),
    "8193 x 8192": png(8193, 8192, (b"IDAT", BOMB)),
    "2^31 - 1": png(2**31 - 1, 1, (b"IDAT", BOMB)),
    "no side": png(0, 8),
    "text that grows": png(8, 8, (b"zTXt", b"a\0\0" + BOMB)),
    "cut": as_format("PNG")[:-100],
}


@pytest.mark.parametrize("data", PICTURES.values(), ids=PICTURES)
def test_what_is_no_picture_of_ours_is_left_out(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^no PNG picture: "):
        picture_uri(data)


def test_a_picture_comes_as_a_jpeg() -> None:
    data = base64.b64decode(picture_uri(as_format("PNG")).removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (8, 8))
