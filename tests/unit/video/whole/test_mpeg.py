"""Packets of MPEG program streams against the bytes that are there."""

from __future__ import annotations

from pathlib import Path

from sce_video.video.whole.mpeg import walk
from tests.damage import WHOLE
from tests.unit.video.whole.fates import fate

PACK_1 = b"\0\0\1\xba" + b"\x21" * 8
PACK_2 = b"\0\0\1\xba" + b"\x44" * 9 + b"\xfa\xff\xff"  # two bytes of stuffing
PACKET = b"\0\0\1\xe0\0\x08" + b"\1" * 8
END = b"\0\0\1\xb9"


def test_packets() -> None:
    for pack in (PACK_1, PACK_2):
        whole = pack + PACKET + pack + PACKET
        assert fate(walk, whole) == ""
        assert fate(walk, whole + END) == ""
        assert fate(walk, whole[:-1]) == "cut off"
        assert fate(walk, whole[: -len(PACKET) + 5]) == "cut off"


def test_a_cut_between_two_packets_is_not_told() -> None:
    assert fate(walk, PACK_1 + PACKET) == ""


def test_zeros() -> None:
    """Video CDs fill up their sectors; a hole ends in the middle of something."""
    assert fate(walk, PACK_1 + PACKET + bytes(20) + PACK_1 + PACKET + bytes(300)) == ""
    assert fate(walk, PACK_1 + PACKET + bytes(200) + b"\7\2" + PACKET) == "damaged packets"
    assert fate(walk, PACK_1 + PACKET + bytes(5000)) == "cut off"
    assert fate(walk, PACK_1 + PACKET + END + bytes(5000)) == ""


def test_other_things_between_packets_end_the_walk() -> None:
    assert fate(walk, PACK_1 + PACKET + b"anything" + PACKET[:-3]) == ""
    assert fate(walk, PACK_1 + b"\0\0\1\xb3" + PACKET[:-3]) == ""


def test_a_file_of_ffmpeg(tmp_path: Path) -> None:
    data = WHOLE["mpeg-1 mpg"](tmp_path).read_bytes()
    assert fate(walk, data) == ""
    assert fate(walk, data[:-1]) == "cut off"
