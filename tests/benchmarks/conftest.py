"""Videos and a shard set of them, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from sce_video.cli import main as cli
from tests.benchmarks.videos import make_videos


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 2, seconds=3)
    return folder


@pytest.fixture(scope="session")
def layered(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "layered"
    made = ["folder", "--root", str(videos), "--out", str(folder), "--unlabelled"]
    assert cli(["shard", *made, "--encode", "layered", "--workers", "1"]) == 0
    return folder
