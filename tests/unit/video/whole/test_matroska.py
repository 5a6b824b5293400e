"""Elements of Matroska and WebM against the bytes that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from sce_video.video.whole.matroska import MAGIC, walk
from tests.damage import WHOLE, write_with_sound
from tests.unit.video.whole.fates import fate

HEADER = MAGIC + b"\x80"
BLOCK = b"\xa3\x84\x81\0\0\x80"
GROUP = b"\xa0\x86\xa1" + BLOCK[1:]


def segment(body: bytes, size: int | None = None) -> bytes:
    """A segment and a cluster in it, both of known size or both of unknown."""
    if size is None:
        return HEADER + b"\x18\x53\x80\x67\xff\x1f\x43\xb6\x75\xff" + body
    cluster = b"\x1f\x43\xb6\x75" + bytes([0x80 | size]) + body
    return HEADER + b"\x18\x53\x80\x67" + bytes([0x80 | size + 5]) + cluster


def test_sizes() -> None:
    whole = segment(3 * BLOCK, 18)
    assert fate(walk, whole) == ""
    assert fate(walk, whole[:-1]) == "cut off"
    assert fate(walk, whole + b"anything") == ""
    assert fate(walk, segment(GROUP + BLOCK, 14)) == ""
    assert fate(walk, segment(GROUP.replace(b"\x81", b"\0") + BLOCK, 14)) == "damaged packets"
    assert fate(walk, segment(BLOCK + bytes(6) + BLOCK, 18)) == "damaged packets"
    assert fate(walk, segment(BLOCK + b"\xa3" + bytes(5) + BLOCK, 18)) == "damaged packets"
    assert fate(walk, segment(2 * BLOCK + bytes(6), 18)) == "cut off"


def test_a_live_recording_promises_no_more_than_its_last_block() -> None:
    assert fate(walk, segment(3 * BLOCK)) == ""
    assert fate(walk, segment(2 * BLOCK)) == ""
    for lost in range(1, 6):
        assert fate(walk, segment(3 * BLOCK)[:-lost]) == "cut off"
    assert fate(walk, segment(3 * BLOCK) + bytes(99)) == "cut off"


def test_a_live_recording_of_ffmpeg(tmp_path: Path) -> None:
    path = write_with_sound(tmp_path / "v.mkv", frames=30, muxer={"live": "1"})
    data = path.read_bytes()
    assert b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" in data
    assert fate(walk, data) == ""
    assert fate(walk, data[:-3]) == "cut off"


@pytest.mark.parametrize("kind", ["h264 mkv", "mpeg-2 mkv"])
def test_checksums(kind: str, tmp_path: Path) -> None:
    """FFmpeg writes one into each cluster (not of WebM): a single bit tells."""
    data = bytearray(WHOLE[kind](tmp_path).read_bytes())
    assert fate(walk, bytes(data)) == ""
    data[len(data) // 2] ^= 1
    assert fate(walk, bytes(data)) == "damaged packets"
