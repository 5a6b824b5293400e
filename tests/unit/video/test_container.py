"""What may be opened as a video, and that nothing else can be reached through it."""

from __future__ import annotations

from pathlib import Path

from tests.odd_videos import audio_only
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
