"""A shard set with an encoder, and the same with nothing kept yet or with lost samples."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from sce_video.evals import embed as room
from sce_video.evals.embed import embed
from sce_video.model.encoder import EncoderSpec, build_encoder, save_encoder
from sce_video.shardset.index import open_shards
from tests.runs import make_shards
from tests.unit.evals.small_set import VIDEOS, bits, rank, request_for


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set and an encoder."""
    root = tmp_path_factory.mktemp("embed")
    make_shards(root, VIDEOS)
    torch.manual_seed(0)
    spec = EncoderSpec(
        trunk="r3d_18",
        width=4,
        frames=2,
        seconds=0.5,
        size=28,
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
    )
    (root / "run").mkdir()
    save_encoder(root / "run" / "encoder.safetensors", build_encoder(spec), spec)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """The same with nothing kept yet."""
    shutil.copytree(made / "run", tmp_path / "run", ignore=shutil.ignore_patterns("features"))
    (tmp_path / "shards").symlink_to(made / "shards")
    return tmp_path


@pytest.fixture
def lossy(root: Path, made: Path) -> Path:
    """The set with one test and one train video overwritten by zeros."""
    (root / "shards").unlink()
    shutil.copytree(made / "shards", root / "shards")
    index = open_shards(root / "shards")
    for split in ("train", "test"):
        row = int(index.rows(split)[2])
        tar = root / "shards" / index.strings("shard")[row]
        with tar.open("r+b") as stream:
            for member in ("media", "idx"):
                stream.seek(int(index.numbers(f"{member}_offset")[row]))
                stream.write(b"\0" * int(index.numbers(f"{member}_size")[row]))
    return root


@pytest.fixture(scope="session")
def whole(made: Path) -> tuple[Path, tuple[bytes, bytes]]:
    """The features that one process makes at a go: their folder, and what it holds."""
    with patch.object(room, "_SAVE_EVERY", 1e9):
        folders = embed([request_for(made)], rank(0, 1))
    assert folders is not None
    return folders[0], bits(folders[0])
