"""Images go the way of clips: one frame, the same order, the same crops as torchvision's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import functional as tv

from sce_video.config.load import load_config
from sce_video.config.recipes import RandomResizedCrop
from sce_video.errors import UsageError
from sce_video.shard.__main__ import main as shard
from sce_video.shardset.index import ShardIndex, open_shards
from sce_video.stream.clips import ClipTiming, RandomClips, UniformClips
from sce_video.stream.loader import ClipDataset, load
from sce_video.stream.order import Position, batch_plan
from sce_video.stream.reader import ShardReader

CROPS = ((RandomResizedCrop((0.2, 1.0)), 224), (RandomResizedCrop((0.2, 1.0)), 96))
SAMPLER = RandomClips(CROPS, ClipTiming(1, 0.0), 0.0, seed=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(6):
        path = root / "raw" / f"c{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        small.resize((400, 300) if i else (300, 400)).save(path, quality=90)
    out = ("--out", str(root / "shards"), "--workers", "1")
    assert shard(["folder", "--root", str(root / "raw"), *out]) == 0
    return root


@pytest.fixture(scope="module")
def index(root: Path) -> ShardIndex:
    return open_shards(root / "shards")


def test_views_are_torchvisions_crops(root: Path, index: ShardIndex) -> None:
    folder = ImageFolder(str(root / "raw"))
    reader = ShardReader(index)
    paths = dict(zip(index.strings("path"), range(6), strict=True))
    [batch] = load(ClipDataset(reader, SAMPLER), [[Position(0, i) for i in range(6)]], workers=0)
    assert not batch.bad
    for path, label in folder.samples:
        row = paths[Path(path).relative_to(root / "raw").as_posix()]
        assert batch.labels[row] == label
        image = tv.pil_to_tensor(Image.open(path).convert("RGB"))
        for view, (spec, (_, size)) in enumerate(
            zip(SAMPLER(reader.video(row), 0, row), CROPS, strict=True)
        ):
            expected = tv.resized_crop(image, *spec.box, [size, size], antialias=True)
            assert batch.views[view].shape[1:] == (1, 3, size, size)
            assert int((batch.views[view][row, 0].int() - expected.int()).abs().max()) <= 1


def test_evaluation_is_the_centre_of_a_resized_image(root: Path, index: ShardIndex) -> None:
    views = UniformClips(1, 1, 1, 0.0, 112, short=8 / 7)
    dataset = ClipDataset(ShardReader(index), views)
    batch = dataset.__getitems__([Position(0, 0)])
    image = Image.open(root / "raw" / index.strings("path")[0]).convert("RGB")
    expected = tv.center_crop(tv.resize(tv.pil_to_tensor(image), [128], antialias=True), [112])
    assert int((batch.views[0][0, 0].int() - expected.int()).abs().max()) <= 1


def test_clips_are_for_videos_and_images_for_the_rest(index: ShardIndex) -> None:
    def plan(*overrides: str) -> int:
        given = [f"data.shards={index.folder}", "data.split=null", "train.batch_size=3"]
        return len(batch_plan(load_config("demo.yaml", [*given, *overrides]), index, 0, 1).rows)

    with pytest.raises(UsageError, match="holds images; give clip=null"):
        plan()
    images = ("clip=null", "augment.recipe=moco_v2")
    assert plan(*images, "augment.size=32") == 6
    assert load_config("demo.yaml", images).shape.size == 224
    with pytest.raises(UsageError, match=r"the size of clips is clip\.size"):
        load_config("demo.yaml", ["augment.size=32"])


def test_batches_of_images_are_small_in_memory(index: ShardIndex) -> None:
    batch = ClipDataset(ShardReader(index), SAMPLER).__getitems__([Position(0, 0)])
    assert [view.dtype for view in batch.views] == [torch.uint8] * 2
    assert batch.views[0].untyped_storage().nbytes() == 3 * 224 * 224
