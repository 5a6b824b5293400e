"""Progress: plain lines where there is no terminal."""

from __future__ import annotations

import pytest

from sce_video import progress


def test_plain_lines_are_rare_and_the_last_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.Progress(3000, "video", start=1000) as bar:
        bar.update(1500, "3 rejected")
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(progress, "_LINES_EVERY", 0.0)
        bar.update(2000, "3 rejected")
        bar.update(3000, "4 rejected")
        bar.update(3000, "4 rejected")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("video 2,000/3,000 3 rejected ")
    assert lines[1] == "video 3,000/3,000 4 rejected 0 s left"


def test_silent_where_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress(3, "step", shown=False) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
