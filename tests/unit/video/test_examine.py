"""What passes a full decode, what it is found to be, and what is rejected for which reason."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sce_video.video.examine import examine_video
from sce_video.video.facts import Rejected
from sce_video.video.limits import DEFAULT_LIMITS, Limits
from tests.conftest import REPOSITORY
from tests.odd_videos import MATRICES, display_by, encode
from tests.videos import moving_square, write_video


def reason(data: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    with pytest.raises(Rejected) as caught:
        examine_video(data, limits)
    return str(caught.value)


def encoded(ext: str, codec: str, tmp_path: Path, frames: int = 25) -> bytes:
    path = write_video(tmp_path / f"v.{ext}", moving_square(frames), codec=codec)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("container", "codec", "ext"),
    [
        ("mp4", "libx264", "mp4"),
        ("mov", "libx264", "mp4"),
        ("avi", "mpeg4", "avi"),
        ("mkv", "libx264", "mkv"),
        ("webm", "libvpx-vp9", "webm"),
        ("mpg", "mpeg1video", "mpg"),
    ],
)
def test_containers(container: str, codec: str, ext: str, tmp_path: Path) -> None:
    found = examine_video(encoded(container, codec, tmp_path))
    assert (found.ext, found.frames, found.width, found.height) == (ext, 25, 64, 48)
    assert found.fps == pytest.approx(25, rel=0.01)
    assert found.duration == pytest.approx(1.0, rel=0.01)


def test_variable_frame_rate_and_rotation(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 100)
        for number, image in enumerate(moving_square(11)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number * (4 if number < 6 else 16), Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    found = examine_video(bytes(data))
    assert found.frames == 11
    assert found.duration == pytest.approx(1.6 + 0.04, abs=0.17)
    assert found.fps == pytest.approx(found.frames / found.duration, abs=1e-4)
    at = data.index(b"tkhd") + 4 + 40  # version and flags, times, ids, then the matrix
    unity = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    assert data[at : at + 36] == unity
    quarter = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30], ">i4").tobytes()
    data[at : at + 36] = quarter
    turned = examine_video(bytes(data))
    assert (turned.width, turned.height) == (48, 64)


def test_not_a_video(noise: bytes) -> None:
    assert reason(b"") == "empty file"
    assert reason(noise) == "no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"
    assert reason(b"<!DOCTYPE html><html><body>404</body></html>" * 99) == (
        "no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"
    )


def test_each_sign_of_damage_counts(tmp_path: Path) -> None:
    """FFmpeg reports some damage as an error and some as a flag on a frame."""
    data = encoded("mp4", "libx264", tmp_path, frames=40)
    start = data.index(b"mdat") + 4
    rng = np.random.default_rng(1)
    reasons = set()
    for _ in range(30):
        damaged = bytearray(data)
        damaged[start + rng.integers(len(data) // 2)] ^= 255
        try:
            examine_video(bytes(damaged))
        except Rejected as rejected:
            reasons.add(str(rejected))
    assert {"damaged frames", "decode error"} <= reasons


def test_cut_mp4(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    video = moving_square(60)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for image in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert examine_video(data).frames == 60
    assert reason(data[: len(data) * 8 // 10]) == "cut off"
    moov_last = write_video(tmp_path / "w.mp4", video).read_bytes()
    assert reason(moov_last[: len(moov_last) * 8 // 10]) == "cut off"


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_bit_flips(codec: str, tmp_path: Path) -> None:
    """Nearly all of the damage is seen; what is not seen left every frame decodable."""
    data = encoded("mp4", codec, tmp_path, frames=40)
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(12):
        damaged = bytearray(data)
        for _ in range(20):
            damaged[start + rng.integers(size)] ^= 1 << int(rng.integers(8))
        try:
            examine_video(bytes(damaged))
        except Rejected:
            rejected += 1
    assert rejected >= 11


def test_sums_in_png_video_are_looked_at(tmp_path: Path) -> None:
    """Its decoder shows what it can, and says nothing of a wrong sum, unless it is told to."""
    data = encode(tmp_path / "v.mov", "png", pix_fmt="rgb24", ticks=range(0, 200, 40)).read_bytes()
    assert examine_video(data).codec == "png"
    at = data.index(b"IDAT")
    size = int.from_bytes(data[at - 4 : at], "big")
    damaged = bytearray(data)
    damaged[at + 4 + size] ^= 1
    assert reason(bytes(damaged)) == "decode error"


def test_size_changes_mid_stream(tmp_path: Path) -> None:
    parts = []
    for number, height in enumerate((48, 64)):
        path = tmp_path / f"{number}.mpg"
        with av.open(str(path), "w", format="mpeg1video") as container:
            stream = container.add_stream("mpeg1video", rate=25)
            stream.height, stream.width, stream.pix_fmt = height, 64, "yuv420p"
            for image in moving_square(10, height=height):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        parts.append(path.read_bytes())
    with pytest.raises(Rejected):
        examine_video(parts[0] + parts[1])


def test_limits(clips: Path) -> None:
    data = (clips / "clip0.mp4").read_bytes()
    assert examine_video(data, Limits(min_frames=10)).frames == 10
    assert reason(data, Limits(min_frames=11)) == "too short"
    assert reason(data, Limits(frames=9)) == "too many frames"
    assert reason(data, Limits(pixels=64 * 48 - 1)) == "frames too large"
    assert reason(data, Limits(bytes=len(data) - 1)) == "file too large"
    assert reason(data, Limits(cpu_seconds=-1)) == "takes too long to decode"


def test_one_frame(tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.mp4", moving_square(1)).read_bytes()
    assert reason(data) == "too short"
    found = examine_video(data, Limits(min_frames=1))
    assert (found.frames, found.fps, found.duration) == (1, 25.0, 0.04)


@pytest.mark.parametrize(
    ("x264", "turned", "aspect", "interlaced"),
    [
        ("sar=4/3", False, "4:3", False),
        ("sar=4/3", True, "3:4", False),
        ("tff=1", False, "", True),
        ("sar=1/1", False, "", False),
        ("", False, "", False),
    ],
)
def test_what_no_decoder_acts_upon(
    x264: str, turned: bool, aspect: str, interlaced: bool, tmp_path: Path
) -> None:
    path = encode(tmp_path / "a.mp4", x264=x264, ticks=range(0, 400, 40))
    if turned:
        path = display_by(path, tmp_path / "v.mp4", MATRICES["turned 90"])
    found = examine_video(path.read_bytes())
    assert (found.pixel_aspect, found.interlaced) == (aspect, interlaced)


def test_every_reason_is_documented() -> None:
    page = (REPOSITORY / "shards" / "README.md").read_text()
    rooms = (REPOSITORY / "sce_video" / room for room in ("shard", "video", "video/whole"))
    sources = [path for room in rooms for path in room.glob("*.py")]
    pattern = re.compile(r'(?:Rejected|Refused|DecodeError)\(\s*"([^"]+)"')
    reasons = {reason for path in sources for reason in pattern.findall(path.read_text())}
    assert len(reasons) > 15
    assert {reason for reason in reasons if f"`{reason}`" not in page} == set()
