"""Boxes, sample tables and segment indexes against the bytes that are there."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from sce_video.video.examine import examine_video
from sce_video.video.whole.mp4 import walk
from tests.damage import WHOLE
from tests.unit.video.whole.fates import fate


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def table(kind: bytes, entries: list[int], *, columns: int = 1, before: bytes = b"") -> bytes:
    count = len(entries) // columns
    return box(kind, bytes(4), before, struct.pack(f">I{len(entries)}I", count, *entries))


def moov(stsz: bytes, stsc: list[int], stco: list[int], behind: bytes = b"") -> bytes:
    stbl = box(b"stbl", stsz, table(b"stsc", stsc, columns=3), table(b"stco", stco), behind)
    return box(b"moov", box(b"trak", box(b"mdia", box(b"minf", stbl))))


SIZES = table(b"stsz", [10, 20, 30], before=bytes(4))


def test_samples_lie_in_the_file() -> None:
    """``mdat`` says only that it goes on to the end (size 0): the tables alone tell of a cut."""
    for front in (True, False):
        head = moov(SIZES, [1, 2, 1, 2, 1, 1], [1000, 2000]) if front else b""
        body = bytes(8 - 4) + b"mdat" + b"\1" * (2030 - len(head) - 8)
        assert fate(walk, head + body) == ""
        assert fate(walk, (head + body)[:-1]) == ("cut off" if front else "")


def test_the_last_samples_are_not_zeros() -> None:
    sizes = table(b"stsz", [100, 200], before=bytes(4))
    index = moov(sizes, [1, 1, 1], [1000, 2000])
    data = (index + bytes(4) + b"mdat").ljust(2200, b"\1")
    assert fate(walk, data) == ""
    assert fate(walk, data[:2000].ljust(2200, b"\0")) == "cut off"
    assert fate(walk, data[:2001].ljust(2200, b"\0")) == ""  # whether that may be, its codec tells


def test_sizes_that_quicktime_gives_in_other_units() -> None:
    """All sound samples "of one byte", where a frame of ima4 has 34 for 64 of them."""
    same = box(b"stsz", bytes(4), struct.pack(">II", 1, 100_000))
    data = moov(same, [1, 100_000, 1], [1000]).ljust(1000, b"\0")
    assert fate(walk, data + b"\1" * 10) == ""
    assert fate(walk, data[:999]) == "cut off"


@pytest.mark.parametrize(
    "index",
    [
        moov(SIZES, [1, 1, 1], [1000, 2000]),  # fewer in chunks than there are
        moov(SIZES, [1, 3, 1], [0]),
        moov(SIZES, [2, 3, 1], [1000, 2000]),
        moov(box(b"stsz", bytes(8), struct.pack(">4I", 4, 10, 20, 30)), [1, 3, 1], [1000]),
        moov(SIZES, [1, 3, 1], [1000], behind=bytes(12) + b"\1"),
    ],
    ids=["too few", "at nought", "no first chunk", "short table", "zeros for a box"],
)
def test_tables_with_holes(index: bytes) -> None:
    assert fate(walk, index + bytes(4) + b"mdat" + b"\1" * 4000) == "damaged packets"


def test_zeros_that_close_a_box() -> None:
    assert fate(walk, moov(SIZES, [1, 3, 1], [100], behind=bytes(4)).ljust(400, b"\0")) == ""


def test_fragments(tmp_path: Path) -> None:
    data = WHOLE["h264 fragmented"](tmp_path).read_bytes()
    assert fate(walk, data) == ""
    moof = data.rindex(b"moof") - 4
    size = struct.unpack_from(">I", data, moof)[0]
    assert fate(walk, data[: moof + size]) == "cut off"  # a fragment without its samples
    assert fate(walk, data[: moof + size + 20]) == "cut off"
    assert fate(walk, data[: moof + 5]) == "cut off"  # not even a box's head
    assert fate(walk, data[:moof].ljust(len(data), b"\0")) == "cut off"
    # Nothing promises the fragments to come.
    assert examine_video(data[:moof]).frames < 75


def test_an_index_of_segments_promises_them(tmp_path: Path) -> None:
    data = WHOLE["h264 fragmented, sidx"](tmp_path).read_bytes()
    assert fate(walk, data) == ""
    assert fate(walk, data[: data.rindex(b"moof") - 4]) == "cut off"


@pytest.mark.parametrize(
    "behind", [b"TAG" + b"a title".ljust(125, b"\0"), bytes(3), bytes(4096), b"8db42d694ccc418790"]
)
def test_what_others_append_is_nobodys(behind: bytes, tmp_path: Path) -> None:
    """An ID3 tag, a camera's notes, zeros; where the last box is not known it may be one of it."""
    index, media = moov(SIZES, [1, 3, 1], [300]), box(b"mdat", b"\1" * 400)
    assert fate(walk, index + media + behind) == fate(walk, media + index + behind) == ""
    assert fate(walk, media + behind) != ""
    fragments = WHOLE["h264 fragmented"](tmp_path).read_bytes()
    index_at = fragments.rindex(b"mfra") - 4
    assert fate(walk, fragments + behind) == ""
    assert fate(walk, fragments[:index_at] + behind) != ""


@pytest.mark.parametrize("kind", [b"moov", b"mdat", b"moof", b"styp", b"sidx"])
def test_a_box_of_samples_is_not_something_appended(kind: bytes) -> None:
    whole = moov(SIZES, [1, 3, 1], [300]) + box(b"mdat", b"\1" * 400)
    assert fate(walk, whole + box(kind, bytes(100))[:50]) == "cut off"


def test_large_boxes() -> None:
    wide = struct.pack(">I4sQ", 1, b"mdat", 100) + b"\1" * 84
    assert fate(walk, wide + moov(SIZES, [1, 3, 1], [16])) == ""
    assert fate(walk, wide[:-1]) == "cut off"


def test_garbage_is_refused_or_passes(tmp_path: Path) -> None:
    """Whatever the bytes say, nothing but a verdict comes out."""
    data = WHOLE["h264 fragmented, sidx"](tmp_path).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        mixed = bytearray(data)
        for at in rng.integers(0, 2500, 20):
            mixed[at] = rng.integers(256)
        fate(walk, bytes(mixed[: rng.integers(len(mixed))]))
