"""Readers of tars by others: training on them, and the converter's list of them."""

from __future__ import annotations

import io
import tarfile
from itertools import islice
from pathlib import Path

from sce_video.config.load import load_config
from sce_video.shard.sources import Options, find_source
from sce_video.shard.worker import FileJob, process_file
from sce_video.shardset.labels import LabelError, class_number, stated_classes
from sce_video.stream.clips import UniformClips
from sce_video.stream.foreign.clips import ForeignClips
from sce_video.stream.foreign.plan import expand, foreign_plan
from tests.faults.mutators.tars import packed_tar, tar_file, zipped_tar
from tests.faults.mutators.text import json_text, lines_text
from tests.faults.targets.house import House
from tests.faults.targets.target import Target
from tests.unit.shard.layouts import put_text, tar

_VIEWS = UniformClips(1, 1, 2, 0.2, 16)
_GIVEN = (
    *("data.shards=theirs.tar", "data.split=null", "data.epoch_samples=4", "data.workers=0"),
    *("clip={frames: 2, seconds: 0.2, size: 16}", "train.batch_size=2", "train.epochs=1"),
)


def _make(house: House, folder: Path) -> None:
    """``theirs.tar``: videos with classes in ``cls`` and in ``json``."""
    with tarfile.open(folder / "theirs.tar", "w", format=tarfile.USTAR_FORMAT) as made:
        for number, path in enumerate(sorted(house.raw.rglob("*.mp4"))[:3]):
            members = {"mp4": path.read_bytes(), "cls": b"3", "json": b'{"label": "a", "x": [1]}'}
            for extension in ("mp4", "json" if number else "cls"):
                info = tarfile.TarInfo(f"sample{number}.{extension}")
                info.size = len(members[extension])
                made.addfile(info, io.BytesIO(members[extension]))


def _read(folder: Path, place: str) -> None:
    config = load_config("pretrain/sce_k400_r2plus1d_18.yaml", _GIVEN)
    clips = ForeignClips(foreign_plan(config, 0, 1), _VIEWS, 0)
    for batch in islice(clips, 2):
        assert all("\n" not in f"{name}{why}" for name, why in batch.bad)


def _make_folder(house: House, folder: Path) -> None:
    (folder / "raw").mkdir()
    _make(house, folder / "raw")


def _convert(name: str, root: Path) -> None:
    """List, and do the work of a worker on the first files; what packs several tars apart."""
    for record in find_source(name).scan(name, root, Options()).records[:8]:
        if record.part is None:
            process_file(FileJob(record))


def _make_imagenet(house: House, folder: Path) -> None:
    """The official tar of tars."""
    [picture] = (house.images.parent / "pictures").rglob("*.jpg")
    data = picture.read_bytes()
    inner = tar(folder / "inner.tar", {"n01440764_1.JPEG": data, "n01440764_2.JPEG": data})
    classes = {f"{name}.tar": inner.read_bytes() for name in ("n01440764", "n01443537")}
    tar(folder / "raw/ILSVRC2012_img_train.tar", classes)


def _make_kinetics(house: House, folder: Path) -> None:
    """A part as it is distributed, and its list."""
    paths = sorted(house.raw.rglob("*.mp4"))[:2]
    names = [f"id{number}_000000_000010.mp4" for number in range(len(paths))]
    parts = {name: path.read_bytes() for name, path in zip(names, paths, strict=True)}
    tar(folder / "raw/train/part_0.tar.gz", parts)
    rows = [f"yoga,id{number},0,10,train,0" for number in range(len(paths))]
    header = "label,youtube_id,time_start,time_end,split,is_cc"
    put_text(folder / "raw", "annotations/train.csv", [header, *rows])


def _make_labels(house: House, folder: Path) -> None:
    (folder / "a.json").write_text('{"label": 3, "class": "Biking", "caption": "x", "n": [1.5]}')
    (folder / "b.cls").write_text("17\n")


def _read_label(folder: Path, place: str) -> None:
    data = (folder / place).read_bytes()
    names = list(stated_classes({place.rpartition(".")[2]: data}))
    number = class_number(names)
    assert -1 <= number < 1 << 63
    for name in names:
        name.encode()


def _make_pattern(house: House, folder: Path) -> None:
    _make(house, folder)
    (folder / "pattern").write_text("{theirs,theirs}.tar\n")


def _expand(folder: Path, place: str) -> None:
    text = (folder / place).read_text(encoding="utf-8", errors="surrogateescape")
    expand(text.rstrip("\n"))


TARGETS = (
    Target("tar of others", _make, {"theirs.tar": tar_file}, _read, share=4),
    Target(
        "tar at the door",
        _make_folder,
        {"raw/theirs.tar": packed_tar},
        lambda folder, place: _convert("webdataset", folder / "raw"),
    ),
    Target(
        "tar of ImageNet",
        _make_imagenet,
        {"raw/ILSVRC2012_img_train.tar": packed_tar},
        lambda folder, place: _convert("imagenet", folder / "raw"),
        share=1,
    ),
    Target(
        "tar of Kinetics",
        _make_kinetics,
        {"raw/train/part_0.tar.gz": zipped_tar},
        lambda folder, place: _convert("kinetics400", folder / "raw"),
        share=1,
    ),
    Target(
        "label",
        _make_labels,
        {"a.json": json_text, "b.cls": lines_text},
        _read_label,
        refusals=(LabelError,),
        share=3,
        replaced=False,
    ),
    Target(
        "pattern of tars",
        _make_pattern,
        {"pattern": lines_text},
        _expand,
        share=1,
        anywhere=True,
        replaced=False,
    ),
)
