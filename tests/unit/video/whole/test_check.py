"""Broken downloads of every container and codec are refused; whole files pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sce_video.video.examine import examine_video
from sce_video.video.whole.check import check_container
from tests.damage import DAMAGE, WHOLE, verdict
from tests.unit.video.test_examine import reason

SAME, MISSED = "same", "missed"

BARE = "mpeg-1 bare"
"""An elementary stream, which promises nothing."""
FLOORS = {"cut": 1.0, "zero tail": 1.0, "hole": 0.97}
"""Least share of what changes the pictures that is refused."""
ZEROS_ARE_DATA = {"raw avi": 0.0, "mpeg-2 mov": 0.5}
"""Kinds of which holes are hard to tell, and that share."""


def found(data: bytes, damaged: bytes, want: int) -> str:
    """What becomes of a damaged file: the reason, or whether its frames still are ``want``."""
    why, frames = verdict(damaged)
    return why or (SAME if frames == want else MISSED)


@pytest.fixture(params=WHOLE)
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, bytes, int]:
    """Name, file and checksum of the frames of each kind."""
    data = WHOLE[request.param](tmp_path).read_bytes()
    why, want = verdict(data)
    assert not why
    return request.param, data, want


def test_a_few_broken_downloads(whole: tuple[str, bytes, int]) -> None:
    name, data, want = whole
    rng = np.random.default_rng(2)
    for kind, damage in DAMAGE.items():
        fates = {found(data, damage(data, rng), want) for _ in range(2)}
        assert fates != {MISSED} or name in ZEROS_ARE_DATA
        if kind != "hole" and name != BARE:
            assert MISSED not in fates
            assert "cut off" in fates


@pytest.mark.soak
def test_shares_of_broken_downloads(
    whole: tuple[str, bytes, int], record_property: Callable[[str, object], None]
) -> None:
    name, data, want = whole
    for kind, damage in DAMAGE.items():
        rng = np.random.default_rng(3)
        fates = Counter(found(data, damage(data, rng), want) for _ in range(200))
        refused = fates.total() - fates[SAME] - fates[MISSED]
        share = refused / max(fates.total() - fates[SAME], 1)
        record_property(kind, f"{share:.1%} refused; {fates[SAME]} of 200 change no picture")
        print(f"{name:26s} {kind:10s} {share:7.1%} {dict(fates)}")
        floor = 0.8 if name == BARE else FLOORS[kind]
        assert share >= (ZEROS_ARE_DATA.get(name, floor) if kind == "hole" else floor)


def test_what_is_no_container_promises_nothing() -> None:
    for data in (b"", b"\0" * 9, b"<html>" * 9):
        check_container(data)


@pytest.mark.parametrize("kind", ["h264 mp4, moov in front", "h264 avi", "h264 mkv", "mpeg-1 mpg"])
def test_something_behind_a_whole_file_is_let_be(kind: str, tmp_path: Path) -> None:
    data = WHOLE[kind](tmp_path).read_bytes()
    assert examine_video(data + bytes(2000)).frames == 75


def test_zeros_are_named_for_where_they_end(tmp_path: Path) -> None:
    data = WHOLE["vp9 webm"](tmp_path).read_bytes()
    middle = len(data) // 2
    assert reason(data[:middle] + bytes(300) + data[middle + 300 :]) == "damaged packets"
    assert reason(data[:middle].ljust(len(data), b"\0")) == "cut off"


@pytest.mark.slow
def test_real_videos_pass(real_data: Path) -> None:
    paths = [
        p for p in real_data.rglob("*") if p.suffix in (".avi", ".mp4", ".mkv", ".webm", ".mpg")
    ]
    assert paths
    assert {p.name: why for p in paths if (why := verdict(p.read_bytes())[0])} == {}
