"""Frames follow each other in time, also where a container knows only when packets are sent."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sce_video.video.examine import examine_video
from sce_video.video.facts import Rejected
from sce_video.video.peek import peek
from sce_video.video.times import Stamp, display_ticks, mean_rate
from tests.odd_videos import FRAMES, KINDS
from tests.unit.video.layered import decode_all, layered

BASE = Fraction(1, 600)


def ticks(*stamps: tuple[int | None, int | None], rate: int | None = None) -> list[int]:
    fraction = None if rate is None else Fraction(rate)
    return display_ticks([Stamp(*stamp, 0) for stamp in stamps], fraction, BASE)


def test_display_times_are_kept() -> None:
    assert ticks((3, 0), (5, 9), (9, 1)) == [3, 5, 9]
    assert ticks((3, None), (3, None), (9, None)) == [3, 3, 9]  # two at once


def test_times_that_run_backwards_are_sorted() -> None:
    assert ticks((1, 0), (4, 3), (2, 1), (3, 2)) == [0, 1, 2, 3]
    assert ticks((None, 0), (None, 48), (None, 24)) == [0, 24, 48]
    assert ticks((4, None), (2, None), (3, None)) == [2, 3, 4]


def test_where_times_lack_the_rate_has_to_do() -> None:
    assert ticks((0, 0), (None, None), (24, 24), rate=25) == [0, 24, 48]
    assert ticks((7, 7), (2, 7), (7, 7), rate=50) == [0, 12, 24]
    assert ticks((7, 7), (7, 7), (7, 7), rate=50) == [0, 12, 24]
    with pytest.raises(Rejected, match="frames without a time"):
        ticks((None, None), (None, None))


def test_the_mean_rate() -> None:
    assert mean_rate([0, 24, 48], 24, BASE) == (25.0, 0.12)
    assert mean_rate([0, 24, 48, 72, 172], 0, BASE)[1] == round(196 / 600, 6)  # as most others
    with pytest.raises(Rejected, match="frames without a time"):
        mean_rate([5, 5], 0, BASE)


@pytest.mark.parametrize(
    "kind", ["b-frames avi", "mpeg-4 b avi", "mpeg-1 avi", "annex b", "all at once"]
)
def test_where_there_are_no_display_times(kind: str, tmp_path: Path) -> None:
    """Each frame once, in order, 25 a second; layered as well."""
    data = KINDS[kind](tmp_path).read_bytes()
    facts = examine_video(data)
    assert (facts.frames, facts.fps, facts.duration) == (FRAMES, 25.0, FRAMES / 25)
    assert len(set(np.diff(facts.ticks))) == 1
    assert peek(data).fps == pytest.approx(25, rel=0.02)
    transcoded, made = layered(data)
    assert (made.frames, made.fps) == (FRAMES, 25.0)
    truth, got = decode_all(data).astype(int), decode_all(transcoded)
    distance = np.abs(truth[:, None] - got[None]).mean((2, 3, 4))
    assert np.array_equal(distance.argmin(0), np.arange(FRAMES))


def test_what_lasts_too_long_or_no_time() -> None:
    assert mean_rate([0, 1], 0, Fraction(5_000_000)) == (0.0, 10_000_000.0)
    for ticks_, base in (([0, 1], Fraction(5_000_001)), ([-(2**62), 2**62], Fraction(1, 600))):
        with pytest.raises(Rejected, match=r"^lasts more than 10,000,000 seconds$"):
            mean_rate(ticks_, 0, base)
    for ticks_, base in (
        ([0, 1], Fraction(1, 10**7)),
        ([0, 1], Fraction(0)),
        ([0, 1], Fraction(-1)),
        ([0, 0], Fraction(1)),
    ):
        with pytest.raises(Rejected, match=r"^frames without a time$"):
            mean_rate(ticks_, 0, base)
