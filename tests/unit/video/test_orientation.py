"""Videos come out as players show them: the display matrix applied to every place of a frame."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from sce_video.video.decode import Backend, decode_frames
from sce_video.video.examine import examine_video
from sce_video.video.facts import Rejected
from sce_video.video.orientation import UPRIGHT, Orientation
from sce_video.video.packets import PacketIndex
from sce_video.video.peek import peek
from tests.odd_videos import MATRICES, display_by, encode
from tests.unit.video.layered import decode_all, layered

Matrix = tuple[float, float, float, float]


def displayed(image: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """Place by place: (x, y) goes to (a x + c y, b x + d y), moved to where both count from 0."""
    a, b, c, d = (int(np.sign(value)) for value in matrix)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    out = np.zeros((to_y.max() + 1, to_x.max() + 1, 3), np.uint8)
    out[to_y, to_x] = image
    return out


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("plain") / "v.mp4", ticks=range(0, 800, 40))


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_each_way_a_picture_can_lie(matrix: Matrix, plain: Path, tmp_path: Path) -> None:
    data = display_by(plain, tmp_path / "v.mp4", matrix).read_bytes()
    expected = [displayed(image, matrix) for image in decode_all(plain.read_bytes())[:3]]
    facts = examine_video(data)
    assert facts.packets is not None
    index = PacketIndex.from_bytes(facts.packets.to_bytes())
    ways: tuple[tuple[Backend, PacketIndex | None], ...] = (("planned", index), ("pyav", None))
    for backend, known in ways:
        assert np.array_equal(decode_frames(data, [0, 1, 2], known, backend), expected)
    height, width, _ = expected[0].shape
    assert (facts.height, facts.width) == (height, width)
    found = peek(data)
    assert (found.height, found.width) == (height, width)
    transcoded, made = layered(data)
    assert made.packets is not None
    assert made.packets.orientation == UPRIGHT
    got = np.stack(decode_frames(transcoded, [0, 1, 2], made.packets)).astype(int)
    assert got.shape[1:3] == (height, width)
    assert np.abs(got - expected).mean() < 6


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), UPRIGHT),
        ((2, 0, 0, 2), UPRIGHT),  # a size: pixels keep theirs
        ((1.5, 0, 0, 1), UPRIGHT),
        ((0.0001, 1, -1, -0.0001), Orientation(degrees=270)),  # a rounded cosine
        ((0, 0.5, 0.5, 0), Orientation(mirrored=True, degrees=90)),
    ],
)
def test_sizes_and_rounding(
    matrix: Matrix, expected: Orientation, plain: Path, tmp_path: Path
) -> None:
    packets = examine_video(display_by(plain, tmp_path / "v.mp4", matrix).read_bytes()).packets
    assert packets is not None
    assert packets.orientation == expected


@pytest.mark.parametrize(
    "matrix",
    [(0.7, 0.7, -0.7, 0.7), (1, 0.5, 0, 1), (0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 1, 1), (1, 0, 1, 0)],
)
def test_other_matrices_are_rejected(matrix: Matrix, plain: Path, tmp_path: Path) -> None:
    data = display_by(plain, tmp_path / "v.mp4", matrix).read_bytes()
    with pytest.raises(Rejected, match="turned other than by quarters"):
        examine_video(data)


@pytest.mark.parametrize("tag", range(1, 9))
def test_frames_of_a_camera_that_have_exif(tag: int, tmp_path: Path) -> None:
    """FFmpeg gives them a matrix, beside a kind of side data that PyAV has no name for."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:24, :32] = 255
    exif, made = Image.Exif(), io.BytesIO()
    exif[Base.Orientation] = tag
    Image.fromarray(picture).save(made, "JPEG", exif=exif)
    path = tmp_path / "v.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=5)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for number in range(3):
            packet = av.Packet(made.getvalue())
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, 5), stream
            container.mux(packet)
    data = path.read_bytes()
    facts = examine_video(data)
    with Image.open(io.BytesIO(made.getvalue())) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert (facts.height, facts.width) == expected.shape[:2]
    for index in (facts.packets, None):
        [got] = decode_frames(data, [1], index, "planned" if index else "pyav")
        assert np.abs(got.astype(int) - expected).mean() < 3
