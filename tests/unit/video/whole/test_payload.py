"""Zeros inside packets: a hole in one codec, a black picture in another."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from PIL import Image

from sce_video.video.whole.payload import hole_finder

ENTROPY = ("vp8", "vp9", "av1", "ffv1", "msmpeg4v2", "msmpeg4v3")
AVCC, HVCC = b"\1\0\0\0\xff", b"\1" + bytes(20) + b"\xff"  # sizes of four bytes
DATA = bytes(range(1, 256))


def unit(head: int, body: bytes) -> bytes:
    return (1 + len(body)).to_bytes(4, "big") + bytes([head]) + body


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "h263", "flv1", "mpeg2video"])
def test_start_codes(codec: str) -> None:
    has_hole = hole_finder(codec, b"")
    assert not has_hole(b"\0\0\1\x41" + DATA + bytes(12) + b"\0\0\1\x41" + DATA + bytes(12))
    assert has_hole(b"\0\0\1\x41" + DATA + bytes(12) + DATA[2:])
    # A constant bit rate is kept up with zeros in MPEG-1 and MPEG-2.
    assert has_hole(b"\0\0\1\x41" + DATA + bytes(99)) == (codec != "mpeg2video")


@pytest.mark.parametrize(
    ("codec", "extra", "piece", "message"), [("h264", AVCC, 0x41, 6), ("hevc", HVCC, 2, 78)]
)
def test_sizes(codec: str, extra: bytes, piece: int, message: int) -> None:
    has_hole = hole_finder(codec, extra)
    assert not has_hole(unit(piece, DATA) + unit(piece, b"\1") + unit(piece, DATA))
    assert has_hole(unit(piece, DATA + bytes(12) + DATA[2:]))
    assert has_hole(unit(piece, DATA + bytes(24)))
    assert has_hole(unit(piece, DATA) + bytes(8) + unit(piece, DATA))
    assert has_hole(bytes(300))
    # An empty unit; a message without escapes; start codes behind one size, as phones write them.
    assert not has_hole(unit(piece, DATA) + bytes(4) + unit(piece, DATA + bytes(12)))
    assert not has_hole(unit(message, DATA + bytes(99) + DATA) + unit(piece, DATA))
    assert not has_hole(unit(9, b"\xf0" + bytes(9) + b"\1" + bytes([piece]) + DATA))


@pytest.mark.parametrize("codec", ENTROPY)
def test_entropy_codes(codec: str) -> None:
    has_hole = hole_finder(codec, b"")
    assert not has_hole(b"\x82" + DATA + bytes(12) + DATA)
    assert has_hole(b"\x82" + DATA + bytes(64) + DATA)
    assert has_hole(bytes(100))
    if codec in ("vp9", "av1"):
        assert has_hole(b"\0" + DATA)
        assert has_hole(DATA + bytes(8))


@pytest.mark.parametrize("codec", ["rawvideo", "dnxhd", "huffyuv"])
def test_codecs_that_hold_zeros(codec: str) -> None:
    assert not hole_finder(codec, b"")(bytes(1000))


def jpeg(image: np.ndarray, *, optimize: bool) -> bytes:
    made = io.BytesIO()
    Image.fromarray(image).save(made, "JPEG", quality=75, optimize=optimize)
    return made.getvalue()


def test_jpeg() -> None:
    has_hole = hole_finder("mjpeg", b"")
    black = np.zeros((240, 320, 3), np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, black.shape, np.uint8)
    own = jpeg(black, optimize=True)
    assert bytes(99) in own  # zeros are the code of flat blocks in tables of their own
    assert not has_hole(own)
    for image in (black, noise):
        data = jpeg(image, optimize=False)
        start = data.index(b"\xff\xda") + 40
        assert not has_hole(data)
        assert not has_hole(data + bytes(500))  # fields of a fixed size
        assert not has_hole(data + bytes(500) + data)
        assert has_hole(data[:start] + bytes(60) + data[start + 60 :])
        assert has_hole(data[:-9] + bytes(9))
    assert has_hole(bytes(999))
    # Of several tables of one number the last counts; lossless frames have no blocks.
    tables = huffman_tables(jpeg(noise, optimize=False))
    assert not has_hole(own[:2] + tables + own[2:])
    sequential = jpeg(black, optimize=False)
    start = sequential.index(b"\xff\xda") + 40
    hole = sequential[:start] + bytes(60) + sequential[start + 60 :]
    assert has_hole(hole)
    assert not has_hole(hole.replace(b"\xff\xc0", b"\xff\xc3"))


def huffman_tables(data: bytes) -> bytes:
    """The segments of Huffman tables of a JPEG."""
    return data[data.index(b"\xff\xc4") : data.index(b"\xff\xda")]


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "mpeg1video", "vp9", "mjpeg"])
def test_any_bytes_get_an_answer(codec: str) -> None:
    rng = np.random.default_rng(0)
    image = jpeg(rng.integers(0, 255, (16, 16, 3), np.uint8), optimize=True)
    for extra in (b"", b"\1", AVCC, HVCC):
        has_hole = hole_finder(codec, extra)
        for _ in range(100):
            packet = bytearray(image if codec == "mjpeg" else rng.bytes(200) + bytes(30))
            for at in rng.integers(0, len(packet), 12):
                packet[at : at + 9] = bytes(9) if rng.random() < 0.5 else rng.bytes(9)
            assert has_hole(bytes(packet[: rng.integers(1, len(packet))])) in (True, False)


BLACK = [
    ("libx264", "mp4", {}),
    ("libx265", "mp4", {"x265-params": "log-level=0"}),
    ("libvpx", "webm", {"deadline": "realtime", "cpu-used": "8"}),
    ("libvpx-vp9", "webm", {"deadline": "realtime", "cpu-used": "8"}),
    ("mpeg4", "avi", {}),
    ("mpeg1video", "mpg", {"b": "2M", "minrate": "2M", "maxrate": "2M", "bufsize": "1M"}),
    ("mjpeg", "avi", {"qscale": "2"}),
    ("ffv1", "mkv", {}),
]


@pytest.mark.parametrize(("codec", "ext", "options"), BLACK, ids=[codec for codec, *_ in BLACK])
@pytest.mark.parametrize("still", [False, True], ids=["black", "still"])
def test_pictures_without_content_pass(
    codec: str, ext: str, options: dict[str, str], still: bool, tmp_path: Path
) -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    if still:
        image[..., 0] = np.arange(640) * 255 // 640
    with av.open(str(tmp_path / f"v.{ext}"), "w") as made:
        stream = cast("VideoStream", made.add_stream(codec, rate=25, options=options))
        stream.width, stream.height = 640, 480
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    with av.open(str(tmp_path / f"v.{ext}")) as given:
        (stream,) = given.streams.video
        context = stream.codec_context
        has_hole = hole_finder(context.codec.canonical_name, bytes(context.extradata or b""))
        packets = [bytes(packet) for packet in given.demux(stream) if packet.size]
    assert len(packets) >= 8
    assert not any(has_hole(packet) for packet in packets)
