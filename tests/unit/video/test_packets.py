"""The packet index as bytes, and what one that lies is told with a right checksum."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sce_video.video.decode import DecodeError, decode_frames
from sce_video.video.decode.planned import plan_packets
from sce_video.video.examine import examine_video
from sce_video.video.orientation import UPRIGHT
from sce_video.video.packets import IdxError, PacketIndex
from tests.odd_videos import KINDS, VFR, encode
from tests.unit.video.test_claims import told


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PacketIndex:
    packets = examine_video(KINDS["vfr"](tmp_path_factory.mktemp("idx")).read_bytes()).packets
    assert packets is not None
    return packets


def test_there_and_back(index: PacketIndex) -> None:
    back = PacketIndex.from_bytes(index.to_bytes())
    for name, value in vars(index).items():
        assert np.array_equal(getattr(back, name), value), name
    assert (back.codec, back.codec_tag, back.width, back.height) == ("h264", "avc1", 64, 48)


def test_real_times_are_kept(index: PacketIndex) -> None:
    milliseconds = index.pts[np.argsort(index.number)] * float(index.time_base) * 1000
    assert milliseconds == pytest.approx(VFR)


def test_any_changed_byte_is_noticed(index: PacketIndex) -> None:
    data = index.to_bytes()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(IdxError):
            PacketIndex.from_bytes(bytes(damaged))
    for size in (0, 3, 60, len(data) - 1):
        with pytest.raises(IdxError):
            PacketIndex.from_bytes(data[:size])


def test_other_decoders_are_not_opened(index: PacketIndex) -> None:
    with pytest.raises(IdxError, match="makes no sense"):
        PacketIndex.from_bytes(replace(index, codec="rawvideo").to_bytes())


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


def made(count: int = 1, **others: Any) -> PacketIndex:
    known = PacketIndex(
        codec="h264",
        codec_tag="",
        extradata=b"",
        width=4,
        height=4,
        orientation=UPRIGHT,
        colour=(0, 2, 2, 2),
        time_base=Fraction(1, 25),
        pts=np.zeros(count, np.int64),
        offset=np.zeros(count, np.uint32),
        size=np.ones(count, np.uint32),
        number=np.arange(count, dtype=np.int32),
        kind=np.ones(count, np.uint8),
    )
    return replace(known, **others)


LIES: dict[str, tuple[int, dict[str, Any]]] = {
    "another decoder": (1, {"codec": "rawvideo"}),
    "no width": (1, {"width": 0}),
    "no height": (1, {"height": 0}),
    "extradata": (1, {"extradata": bytes((1 << 20) + 1)}),
    "range": (1, {"colour": (3, 2, 2, 2)}),
    "a frame twice": (3, {"number": np.array([0, 1, 1], np.int32)}),
    "a frame that lacks": (3, {"number": np.array([0, 3, 1], np.int32)}),
    "a frame below none": (3, {"number": np.array([0, -2, 1], np.int32)}),
    "a number of billions": (2, {"number": np.array([0, 2**31 - 1], np.int32)}),
    "no frame": (2, {"number": np.array([-1, -1], np.int32)}),
    "more frames than a video": (500_001, {}),
    "nothing in a packet": (2, {"size": np.array([1, 0], np.uint32)}),
    "an odd layer": (1, {"kind": np.array([6], np.uint8)}),
    "a time before the first": (1, {"pts": np.array([-1], np.int64)}),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_no_video_has(lie: str) -> None:
    count, others = LIES[lie]
    PacketIndex.from_bytes(made(3).to_bytes())
    with pytest.raises(IdxError, match="makes no sense"):
        PacketIndex.from_bytes(made(count, **others).to_bytes())


@pytest.mark.parametrize(("width", "height"), [(8192, 8193), (2**32 - 1, 1), (2**31, 2**31)])
def test_frames_that_are_too_large(width: int, height: int) -> None:
    with pytest.raises(DecodeError, match=r"^frames too large$"):
        PacketIndex.from_bytes(made(width=width, height=height).to_bytes())


def test_the_count_of_frames_is_that_of_the_packets() -> None:
    body = bytearray(made(3).to_bytes()[:-4])
    body[12:16] = struct.pack("<I", 2)
    with pytest.raises(IdxError, match="makes no sense"):
        PacketIndex.from_bytes(sealed(bytes(body)))


@pytest.mark.parametrize(
    ("offset", "size"), [([0, 6], [5, 5]), ([2**32 - 1, 0], [2**32 - 1, 1]), ([0, 1], [9, 9])]
)
def test_packets_are_in_the_file_each_in_its_own_place(offset: list[int], size: list[int]) -> None:
    """Else room would be made for what is not there, or the same bytes be fed over and over."""
    places = {"offset": np.array(offset, np.uint32), "size": np.array(size, np.uint32)}
    index = PacketIndex.from_bytes(made(2, **places).to_bytes())
    with pytest.raises(IdxError, match="not of this file"):
        decode_frames(b"0123456789", [0], index)
    made(2).check_extents(2)


def test_packets_that_edits_show_again_count_once() -> None:
    """As often as a track may have edits; each other place is its own."""
    places = {"offset": np.full(1_001, 2, np.uint32), "size": np.full(1_001, 8, np.uint32)}
    made(1_000, **{name: place[:1_000] for name, place in places.items()}).check_extents(10)
    with pytest.raises(IdxError, match="not of this file"):
        made(1_001, **places).check_extents(10)
    places["size"][0] = 7
    with pytest.raises(IdxError, match="not of this file"):
        made(1_001, **places).check_extents(10)


@pytest.mark.parametrize("times", [2, 3])
def test_a_video_whose_edits_show_its_media_again(times: int, tmp_path: Path) -> None:
    data = KINDS["edit list"](tmp_path).read_bytes()
    once = told(data, {b"elst": struct.pack(">II", 0, 1) + struct.pack(">IiI", 1000, 0, 65536)})
    edits = struct.pack(">II", 0, times) + struct.pack(">IiI", 1000, 0, 65536) * times
    data = told(data, {b"elst": edits})
    found, shown = examine_video(data), examine_video(once).frames
    assert found.packets is not None
    assert found.frames == times * shown
    assert found.packets.size.sum(dtype=np.int64) > len(data)
    index = PacketIndex.from_bytes(found.packets.to_bytes())
    numbers = np.array([0, shown - 1, shown, found.frames - 1])
    images = decode_frames(data, numbers, index)
    assert np.array_equal(images, decode_frames(data, numbers, None, "pyav"))
    assert np.array_equal(images[0], images[2])


@pytest.mark.parametrize("colours", [(23, 19, 9), (255, 255, 6)])
def test_colours_that_nobody_has_named(colours: tuple[int, ...], tmp_path: Path) -> None:
    """MPEG-2 has a byte for each, and its decoder takes them as they are."""
    named: dict[str, Any] = {
        "color_primaries": "bt470bg",
        "color_trc": "smpte170m",
        "colorspace": "bt470bg",
    }
    path = encode(tmp_path / "v.avi", "mpeg2video", **named)
    data = re.sub(
        rb"(?s)(\x00\x00\x01\xb5[\x21-\x2f:])...",
        lambda found: found[1] + bytes(colours),
        path.read_bytes(),
    )
    packets = examine_video(data).packets
    assert packets is not None
    assert packets.colour[1:] == colours
    index = PacketIndex.from_bytes(packets.to_bytes())
    images = decode_frames(data, np.array([0, 9]), index)
    assert np.array_equal(images, decode_frames(data, np.array([0, 9]), None, "pyav"))


@pytest.mark.parametrize("kind", ["b-frames", "vp9", "mpeg-4 b", "mpeg-2"])
def test_decoders_take_any_byte_as_colours(kind: str, tmp_path: Path) -> None:
    data = KINDS[kind](tmp_path).read_bytes()
    index = examine_video(data).packets
    assert index is not None
    odd = replace(index, colour=(*index.colour[:1], 255, 255, *index.colour[3:]))
    odd = PacketIndex.from_bytes(odd.to_bytes())
    assert np.array_equal(decode_frames(data, [0], odd), decode_frames(data, [0], index))


@pytest.mark.parametrize("kind", [0, 2, 4])
def test_planning_ends_for_any_index(kind: int) -> None:
    """Many packets without frames, or all of one group: what is fed is found in one pass."""
    count = 200_000
    number = np.full(count, -1, np.int32)
    number[:100] = np.arange(100)
    kinds = np.full(count, kind, np.uint8)
    runs = plan_packets(made(count, number=number, kind=kinds), np.arange(0, 100, 3))
    assert sum(map(len, runs)) == (34 + count - 100 if kind else count)
