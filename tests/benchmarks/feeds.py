"""Endless streams of batches: this project's loader, and others that make the same views.

Others take clips as ours do but make no temporal difference. Every worker process starts from
``forkserver``: a library that decodes in threads may hang in a forked child.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from sce_video.config.recipes import RandomResizedCrop
from sce_video.shardset.index import ShardIndex
from sce_video.stream.clips import ClipTiming, RandomClips, ViewSampler
from sce_video.stream.loader import ClipDataset, load
from sce_video.stream.order import BatchPlan, Position
from sce_video.stream.reader import ShardReader
from sce_video.video.facts import Video
from tests.benchmarks.peers import PEERS, all_numbers, find_peers, reason
from tests.benchmarks.sets import make_set
from tests.benchmarks.videos import make_images
from tests.benchmarks.ways import CLIPS, DIFFERENCE, PLACES, Clips

Feed = Callable[[], Generator[int]]
"""Starts loading; yields how many views each batch held, without end."""
IN_PROCESS = ", in process"
_BATCH = 8  # samples
_IMAGE_SIZE = 224
_AREA = (0.2, 1.0)
_WEBDATASET = "webdataset + decord"


def find_feeds(
    sets: Mapping[str, ShardIndex], clips: Clips, workers: int, folder: Path
) -> tuple[dict[str, Feed], dict[str, str]]:
    """Feeds of clips by name, and what is missing, with why.

    Args:
        sets: by kind, of the same videos.
        clips: to cut.
        workers: processes.
        folder: for the files of the copy set, which others read.
    """
    feeds: dict[str, Feed] = {}
    for kind, grid in PLACES:
        if kind in sets:
            sampler = clips.sampler(grid, DIFFERENCE)
            feeds |= _ours(f"ours, {kind}, grid {grid}", sets[kind], sampler, workers)
    missing: dict[str, str] = {}
    if "copy" in sets:
        peers, missing = find_peers()
        videos = _files(sets["copy"], folder)
        for name in ("pytorchvideo EncodedVideo", "decord get_batch", "torchcodec, approximate"):
            if name in peers:
                views = Views(name, clips)
                feeds[f"DataLoader + {name.split()[0].rstrip(',')}"] = partial(
                    _data_loader, VideoFiles(videos, views), workers
                )
        try:
            import webdataset  # noqa: F401

            if "decord get_batch" in peers:
                urls = [str(sets["copy"].folder / s.name) for s in sets["copy"].manifest.shards]
                feeds[_WEBDATASET] = partial(_webdataset, urls, clips, workers)
        except ImportError as error:
            missing[_WEBDATASET] = reason(error)
    return feeds, missing


def image_feeds(folder: Path, count: int, workers: int) -> dict[str, Feed]:
    """Feeds of two views of made JPEGs, ours and torchvision's ``ImageFolder``."""
    (folder / "images" / "all").mkdir(parents=True)
    make_images(folder / "images" / "all", count)
    index = make_set(folder / "images", folder / "image_set", None, count)
    crops = ((RandomResizedCrop(_AREA), _IMAGE_SIZE),) * CLIPS
    feeds = _ours("ours, images", index, RandomClips(crops, ClipTiming(1, 1.0), 0.0, 0), workers)
    images = ImageFolder(folder / "images", TwoViews())
    return feeds | {"DataLoader + ImageFolder": partial(_data_loader, images, workers)}


def _ours(name: str, index: ShardIndex, sampler: ViewSampler, workers: int) -> dict[str, Feed]:
    dataset = ClipDataset(ShardReader(index), sampler)
    return {
        name + IN_PROCESS: partial(_loaded, dataset, index.digest, 0),
        f"{name}, {workers} workers": partial(_loaded, dataset, index.digest, workers),
    }


def _loaded(dataset: ClipDataset, digest: str, workers: int) -> Generator[int]:
    reader = dataset.reader
    rows = np.arange(len(reader.labels))
    size = min(_BATCH, len(rows))
    plan = BatchPlan(
        rows=rows,
        shard_of=reader.shard_of,
        digest=digest,
        seed=0,
        epochs=10**9,
        batch_size=size,
    )
    stopped = False

    def batches() -> Iterator[list[Position]]:
        for batch in plan.micro_batches(0):
            if stopped:
                return
            yield batch

    loaded = load(dataset, batches(), workers=workers)
    try:
        for batch in loaded:
            yield sum(map(len, batch.views))
    finally:
        stopped = True
        for _ in loaded:  # workers end after the last batch
            continue


def _files(index: ShardIndex, folder: Path) -> list[tuple[Path, Video]]:
    """Write the videos of a copy set as the files they were."""
    reader, extensions = ShardReader(index), index.strings("ext")
    found = []
    for row, key in enumerate(index.strings("key")):
        path = folder / f"{key}.{extensions[row]}"
        path.write_bytes(reader.media(row))
        found.append((path, reader.video(row)))
    return found


class Views:
    """Two random clips of a video by another library, cropped by torchvision."""

    def __init__(self, peer: str, clips: Clips) -> None:
        self.peer, self.timing = peer, ClipTiming(clips.frames, clips.seconds)
        self.crop = v2.RandomResizedCrop(clips.size, _AREA, antialias=True)

    def __call__(self, data: bytes, video: Video) -> list[Tensor]:
        """Clips ``[T,3,S,S]`` uint8, or ``[3,T,S,S]`` float32 from pytorchvideo."""
        numbers = [self.timing(video, float(u)) for u in torch.rand(CLIPS)]
        frames = PEERS[self.peer](data, numbers, video.fps)
        if not isinstance(frames, list):
            every = all_numbers(numbers)
            pixels = torch.as_tensor(frames).permute(0, 3, 1, 2)
            frames = [pixels[np.searchsorted(every, part)] for part in numbers]
        return [self.crop(clip) for clip in frames]


class VideoFiles(Dataset[list[Tensor]]):
    """Videos in files."""

    def __init__(self, videos: Sequence[tuple[Path, Video]], views: Views) -> None:
        self.videos, self.views = videos, views

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, number: int) -> list[Tensor]:
        path, video = self.videos[number]
        return self.views(path.read_bytes(), video)


class TwoViews:
    """Two random crops of a picture."""

    def __init__(self) -> None:
        self.crop = v2.Compose([v2.RandomResizedCrop(_IMAGE_SIZE, _AREA), v2.PILToTensor()])

    def __call__(self, image: Any) -> list[Tensor]:
        """Views ``[3,S,S]`` uint8."""
        return [self.crop(image) for _ in range(CLIPS)]


def _data_loader(dataset: Any, workers: int) -> Generator[int]:
    sampler = RandomSampler(dataset, replacement=True, num_samples=10**9)
    batches = iter(
        DataLoader(
            dataset,
            _BATCH,
            sampler=sampler,
            num_workers=workers,
            multiprocessing_context="forkserver",
        )
    )
    try:
        for batch in batches:
            views = batch if isinstance(batch[0], Tensor) else batch[0]
            yield sum(map(len, views))
    finally:
        batches._shutdown_workers()  # type: ignore[attr-defined]


def _webdataset(urls: Sequence[str], clips: Clips, workers: int) -> Generator[int]:
    import webdataset

    views = partial(_sample, Views("decord get_batch", clips))
    pipeline = webdataset.WebDataset(urls, resampled=True, shardshuffle=False).map(views)
    loader = webdataset.WebLoader(
        pipeline.batched(_BATCH, collation_fn=_columns),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="forkserver",
    )
    for batch in loader:
        yield sum(map(len, batch))


def _sample(views: Views, sample: dict[str, Any]) -> list[Tensor]:
    info = json.loads(sample["json"])
    media = next(sample[ext] for ext in sample if ext in ("mp4", "mkv", "avi", "webm"))
    return views(media, Video(info["frames"], info["fps"], info["height"], info["width"]))


def _columns(samples: Sequence[list[Tensor]]) -> list[Tensor]:
    return [torch.stack(column) for column in zip(*samples, strict=True)]
