"""ImageNet: class folders ``{train,val}/WNID/*.JPEG``, or the official tars as they are.

``ILSVRC2012_img_train.tar`` holds a tar for each class; ``ILSVRC2012_img_val.tar`` is flat and
needs the list of its labels. Paths and so shards are the same in both layouts. Also other image
sets laid out as such class folders. Labels number the sorted WNIDs over all splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Record, Scan
from sce_video.shard.sources.archive import members, reading
from sce_video.shard.sources.listing import (
    Groups,
    check_splits,
    class_folders,
    read_lines,
    split_classes,
)

SPLITS = ("train", "val", "test")
SYNSETS = "imagenet_2012_validation_synset_labels.txt"
EXPECTED = "{split}/WNID/*.JPEG or ILSVRC2012_img_{split}.tar"
_VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
_WNID = re.compile(r"n\d{8}")


def scan(name: str, root: Path, options: Options) -> Scan:
    """List an ImageNet root.

    Raises:
        UsageError: no class folders or tars, a tar is damaged, or a split is not there.
    """
    check_splits(name, options.splits, SPLITS)
    splits = {split: class_folders(root / split, root) for split in SPLITS}
    for split, unpack in (("train", _train), ("val", _val)):
        tar = root / f"ILSVRC2012_img_{split}.tar"
        wanted = split == "train" or not options.splits or split in options.splits
        if wanted and not any(splits[split]) and tar.is_file():
            splits[split] = unpack(tar)
    return split_classes(root, "image", splits, options.splits, EXPECTED)


def _train(tar: Path) -> Groups:
    with reading(tar) as stream:
        inner = list(members(stream, tar, "train"))
    groups = {file.stem: _inner(file) for file in inner if file.suffix == ".tar"}
    return {**groups, "": [file for file in inner if file.suffix != ".tar"]}


def _inner(tar: Record) -> Iterator[Record]:
    """Images of one class, in the tar of tars."""
    start = tar.offset or 0
    with reading(tar.source) as stream:
        stream.seek(start)
        yield from members(stream, tar.source, f"train/{tar.stem}", start + tar.size)


def _val(tar: Path) -> Groups:
    """Images by class, from the list that has a WNID for each in the order of their numbers."""
    places = (tar.parent / SYNSETS, tar.parent / "annotations" / SYNSETS)
    labels = next((path for path in places if path.is_file()), None)
    if labels is None:
        raise UsageError(f"{tar}: its labels lack; put {SYNSETS} beside it")
    wnids = read_lines(labels)
    if wrong := [line for line in wnids if not _WNID.fullmatch(line)]:
        raise UsageError(f"{labels}: expected one WNID a line, got '{wrong[0]}'")
    groups: dict[str, list[Record]] = {"": [], **{wnid: [] for wnid in wnids}}
    with reading(tar) as stream:
        for file in members(stream, tar, "val"):
            match = _VAL_NAME.fullmatch(file.name)
            at = int(match[1]) if match else 0
            if at > len(wnids):
                raise UsageError(f"{labels}: has {len(wnids)} lines, none for {file.name}")
            wnid = wnids[at - 1] if at else ""
            path = f"val/{wnid}/{file.name}" if wnid else file.path
            groups[wnid].append(replace(file, path=path))
    return groups
