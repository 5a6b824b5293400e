"""What may be opened as a video, which of its streams, and that nothing else can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from sce_video.video.container import open_video
from sce_video.video.examine import examine_video
from tests.odd_videos import audio_only, encode, two_streams
from tests.unit.video.test_examine import encoded, reason


def test_no_way_to_other_files(tmp_path: Path, clips: Path) -> None:
    secret = clips / "clip0.mp4"
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n"
    assert reason(playlist.encode()) == "no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"
    concat = f"ffconcat version 1.0\nfile '{secret}'\n"
    assert reason(concat.encode()) == "no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"


def test_a_container_that_is_not_on_the_list(tmp_path: Path) -> None:
    data = encoded("flv", "libx264", tmp_path)
    assert reason(data) == "no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"


def test_audio_only() -> None:
    assert reason(audio_only()) == "no video stream"


def test_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    data = encode(tmp_path / "v.mkv", ticks=range(0, 400, 40)).read_bytes()
    assert reason(data.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ")) == "unknown codec"


SMALL, LARGE = (48, 64), (72, 96)


@pytest.mark.parametrize(
    ("suffix", "sizes", "default", "chosen"),
    [
        ("mp4", (SMALL, LARGE), [1], 1),
        ("mp4", (SMALL, LARGE), [0], 0),
        ("mov", (LARGE, SMALL), [1], 1),
        ("mp4", (SMALL, LARGE), [0, 1], 1),
        ("mov", (LARGE, SMALL), [0, 1], 0),
        ("mkv", (SMALL, LARGE), [], 1),
        ("mkv", (SMALL, LARGE), [0], 0),
        ("mkv", (SMALL, SMALL), [], 0),
    ],
)
def test_the_default_stream_else_the_largest(
    suffix: str, sizes: tuple[tuple[int, int], ...], default: list[int], chosen: int, tmp_path: Path
) -> None:
    data = two_streams(tmp_path / f"v.{suffix}", *sizes, default=default).read_bytes()
    with open_video(data) as (container, stream):
        marked = [one.index for one in container.streams.video if one.disposition & 1]
        assert marked == default
        assert stream.index == chosen
    found = examine_video(data)
    assert (found.height, found.width) == sizes[chosen]


@pytest.mark.parametrize("matrix", ["ycgco", "bt2020c", "chroma-derived-nc", "ictcp", "smpte2085"])
def test_colours_that_no_reading_converts_are_rejected(matrix: str, tmp_path: Path) -> None:
    data = encode(tmp_path / "v.mp4", x264=f"colormatrix={matrix.lower()}").read_bytes()
    number = {"ycgco": 8, "bt2020c": 10, "smpte2085": 11, "chroma-derived-nc": 12, "ictcp": 14}
    what = f"colours that cannot be converted (matrix coefficients {number[matrix]})"
    assert reason(data) == what


@pytest.mark.parametrize(
    "matrix", ["bt709", "smpte170m", "bt470bg", "smpte240m", "fcc", "bt2020nc"]
)
def test_colours_that_are_known(matrix: str, tmp_path: Path) -> None:
    data = encode(tmp_path / "v.mp4", x264=f"colormatrix={matrix}").read_bytes()
    assert examine_video(data).packets is not None
