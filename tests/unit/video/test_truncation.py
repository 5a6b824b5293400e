"""Files that were cut off where FFmpeg notices nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sce_video.video.truncation import is_cut
from tests.unit.video.test_examine import encoded, reason


@pytest.mark.parametrize(("ext", "codec"), [("avi", "mpeg4"), ("mkv", "libx264")])
def test_cut_where_ffmpeg_notices_nothing(ext: str, codec: str, tmp_path: Path) -> None:
    data = encoded(ext, codec, tmp_path)
    assert not is_cut(data)
    assert reason(data[:-1000]) == "cut off"
