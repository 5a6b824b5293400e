"""A small set with one damaged video, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.shard.layouts import class_folders, plan_of, run


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    """12 videos in 3 classes, one of them damaged: 3 shards of 4."""
    folder = class_folders(tmp_path_factory.mktemp("raw"), clips)
    (folder / "class1" / "v1_6.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The set of :func:`root`, made in one go by one worker."""
    folder = tmp_path_factory.mktemp("sets") / "toy"
    run(plan_of(root), folder, max_rejects=0.1)
    return folder
