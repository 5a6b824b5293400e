"""A shard set of made videos that the tests of this room share, and a server of files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sce_video.config.recipes import RandomResizedCrop
from sce_video.shard import plan
from sce_video.shard.__main__ import main as shard
from sce_video.shardset.index import ShardIndex, open_shards
from sce_video.stream.clips import ClipTiming, RandomClips
from sce_video.stream.remote import files
from tests.servers import Server, serving
from tests.videos import moving_square, write_video

SAMPLER = RandomClips(((RandomResizedCrop((0.2, 0.766)), 32),) * 2, ClipTiming(4, 0.4), 0.5, seed=0)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 6 videos (20 frames of 64x48 at 25 fps), 2 classes, 3 tars; not to be changed."""
    root = tmp_path_factory.mktemp("stream")
    for i in range(6):
        write_video(root / f"raw/c{i % 2}/v{i}.mp4", moving_square(20, seed=i))
    made = root / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SAMPLES_PER_SHARD", {"video": 2})
        done = shard(["folder", "--root", str(root / "raw"), "--out", str(made), "--workers", "1"])
    assert done == 0
    assert len(list(made.glob("*.tar"))) == 3
    return made


@pytest.fixture(scope="session")
def index(shards: Path) -> ShardIndex:
    """That set, opened."""
    return open_shards(shards)


@pytest.fixture
def server(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of a copy of the set, ``set``, that may be changed."""
    monkeypatch.setattr(files, "_BACKOFF", 0.01)  # what does not work is tried again soon
    shutil.copytree(shards, tmp_path / "served/set")
    with serving(tmp_path / "served") as found:
        yield found
