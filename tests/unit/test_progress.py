"""Progress: plain lines where there is no terminal."""

from __future__ import annotations

import errno
import re
import sys
import time

import pytest

from sce_video import progress


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(progress, "time", fake)
    return fake


def test_plain_lines_are_rare_and_the_last_is_told_once(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.Progress(3000, "video", title="all", start=1000) as bar:
        for seconds, done in ((0, 1000), (10, 1500), (10, 2000), (4, 2990), (1, 3000), (0, 3000)):
            clock.now += seconds
            bar.update(done, f"{done // 1000} rejected")
    assert capsys.readouterr().err.splitlines() == [
        "all: video 2,000/3,000  50.0 video/s  2 rejected  0:00:20 left",
        "all: video 3,000/3,000  80.0 video/s  3 rejected  0:00:00 left",
    ]


def test_rate_and_time_left_of_a_long_run_that_is_continued(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.Progress(240_000, "video") as bar:
        clock.now += 10
        bar.skip(100_000)  # found finished: says nothing about the rate
        clock.now += 1_000
        bar.update(102_500)
        clock.now += 19_000
        bar.update(110_000)
    assert capsys.readouterr().err.splitlines() == [
        "video 102,500/240,000  2.50 video/s  15:16:40 left",
        "video 110,000/240,000  0.50 video/s  3 days, 0:13:20 left",
    ]


def test_silent_where_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress(3, "step", shown=False) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal_counts_its_rate_from_what_was_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.Progress(1_000_000, "video") as bar:
        bar.skip(999_000)
        time.sleep(0.2)
        bar.update(999_010, "3 rejected")
    shown = re.findall(r"999010/1000000 .*?([\d.]+)video/s, 3 rejected", capsys.readouterr().err)
    assert shown
    assert float(shown[-1]) <= 50  # 10 in 0.2 s


def test_a_bar_goes_on_when_the_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.Progress(3, "video") as bar:
        bar.update(1)
        monkeypatch.setattr("tqdm.std.time", lambda: 0.0)
        time.sleep(0.2)
        bar.update(2)
    shown = capsys.readouterr().err
    assert "2/3 [00:00<00:00" in shown
    assert "-" not in shown


class Gone:
    """A terminal that has gone."""

    def isatty(self) -> bool:
        return True

    closed = False

    def fileno(self) -> int:
        raise OSError(errno.EBADF, "Bad file descriptor")

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def flush(self) -> None:
        raise OSError(errno.EIO, "Input/output error")


def test_names_stay_harmless_in_bars_and_lines(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.Progress(2, "video", title="a\x1b[2J") as bar:
        clock.now += 20
        bar.update(1, "b\n\x9b")
    assert capsys.readouterr().err == (
        "a\\x1b[2J: video 1/2  0.05 video/s  b\\n\\x9b  0:00:20 left\n"
    )
    monkeypatch.undo()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.Progress(2, "video", title="a\x1b[2J") as bar:
        bar.update(2, "b\n\x9b")
    shown = capsys.readouterr().err
    assert "a\\x1b[2J" in shown
    assert "b\\n\\x9b" in shown
    assert "\x1b[2J" not in shown


@pytest.mark.parametrize("stream", [Gone(), None])
def test_where_nobody_can_read_it_work_goes_on(
    stream: Gone | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.Progress(2, "video") as bar:
        bar.skip(1)
        bar.update(2)
    assert capsys.readouterr().out == ""
