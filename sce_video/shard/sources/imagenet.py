"""ImageNet: class folders ``{train,val}/WNID/*.JPEG``, the official tars as they are, or Kaggle's.

``ILSVRC2012_img_train.tar`` holds a tar for each class; ``ILSVRC2012_img_val.tar`` and Kaggle's
``ILSVRC/Data/CLS-LOC/val`` are flat and need the list of their labels. Paths and so shards are the
same in all layouts. Also other image sets laid out as such class folders. Labels number the sorted
WNIDs over all splits; images of a flat test split have none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Record, Scan, file_stem
from sce_video.shard.sources.archive import members, reading
from sce_video.shard.sources.listing import (
    Groups,
    check_splits,
    class_folders,
    read_lines,
    read_table,
    split_classes,
)
from sce_video.shard.sources.scans import APART
from sce_video.shard.sources.tree import Tree, walk

SPLITS = ("train", "val", "test")
SYNSETS = "imagenet_2012_validation_synset_labels.txt"
KAGGLE = "LOC_val_solution.csv"
TINY = "val_annotations.txt"
EXPECTED = "{split}/WNID/*.JPEG, ILSVRC2012_img_{split}.tar or Kaggle's ILSVRC/Data/CLS-LOC/{split}"
CURE = f"splits are the folders {', '.join(SPLITS)}: rename others, or {APART}"
_PLACES = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
_PASSED_OVER = ("ILSVRC/Annotations", "ILSVRC/ImageSets", "Annotations", "ImageSets")
"""Half a million boxes and the makers' lists, beside Kaggle's images."""
_VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
_WNID = re.compile(r"n\d{8}")
_FLAT = "images"  # folder of a flat split in Tiny ImageNet


def scan(name: str, root: Path, options: Options) -> Scan:
    """List an ImageNet root.

    Raises:
        UsageError: no class folders or tars, a tar is damaged, a split is not there, or a flat
            val has no list of labels.
    """
    check_splits(name, options.splits, SPLITS)
    place = next((place for place in _PLACES if (root / place).is_dir()), "")
    within = f"{place}/" if place else ""
    others = [split for split in SPLITS if options.splits and split not in options.splits]
    without = [f"{within}{split}" for split in others] + [*_PASSED_OVER] * bool(place)
    tree = walk(root, options, without=without)
    splits = {split: _groups(tree, within, split, taken=split not in others) for split in SPLITS}
    return split_classes(tree, "image", splits, options.splits, EXPECTED, CURE)


def _groups(tree: Tree, within: str, split: str, *, taken: bool) -> Groups:
    """Images of one split by class; of one that is not taken the classes only."""
    folder = f"{within}{split}"
    groups = class_folders(tree, folder)
    if within:
        for name, files in groups.items():
            groups[name] = [replace(f, path=f.path.removeprefix(within)) for f in files]
    if split != "train" and groups.keys() == {None, _FLAT}:
        groups = {None: groups[None] + groups[_FLAT]}
    tar = tree.root / f"ILSVRC2012_img_{split}.tar"
    if not taken:
        tree.use(tar)
    if any(groups):
        return groups
    if split == "train":
        return _train(tree.use(tar)) if tar.is_file() else groups
    flat = groups.get(None, [])
    images = any(file.media == "image" for file in flat)
    if split == "test":
        return {"": flat} if images else groups
    return _val(tree, within, flat if images or not taken else None, tar)


def _train(tar: Path) -> Groups:
    with reading(tar) as stream:
        inner = list(members(stream, tar, "train"))
    groups: dict[str | None, Iterable[Record]] = {
        file.stem: _inner(file) for file in inner if file.suffix == ".tar"
    }
    return {**groups, None: [file for file in inner if file.suffix != ".tar"]}


def _inner(tar: Record) -> Iterator[Record]:
    """Images of one class, in the tar of tars."""
    start = tar.offset or 0
    with reading(tar.source) as stream:
        stream.seek(start)
        yield from members(stream, tar.source, f"train/{tar.stem}", start + tar.size)


def _val(tree: Tree, within: str, flat: list[Record] | None, tar: Path) -> Groups:
    """Images of a flat folder by class, from a list of their labels; None = of the tar."""
    if flat is None and not tar.is_file():
        return {}
    lists = [path for path in _label_lists(tree.root, within) if path.is_file()]
    if not lists:
        if flat == []:  # not asked for
            return {}
        where = tar if flat is None else tree.root / within / "val"
        raise UsageError(
            f"{where}: its labels lack; put {SYNSETS} beside it, or Kaggle's {KAGGLE}; "
            "or take --split train"
        )
    labels = _read_labels(tree.use(lists[0]))
    groups: dict[str | None, list[Record]] = {None: []}
    groups |= {wnid: [] for wnid in labels.values()}
    if flat is None:
        with reading(tree.use(tar)) as stream:
            flat = [*members(stream, tar, "val")]
    taken: set[str] = set()  # names: in a flat folder and in one in it there may be two of one
    for file in flat:
        wnid = labels.get(file.stem) if file.media and file.name not in taken else None
        taken.add(file.name)
        if file.media and file.stem not in labels and _VAL_NAME.fullmatch(file.name):
            raise UsageError(f"{lists[0]}: has {len(labels)} lines, none for {file.name}")
        path = f"val/{wnid}/{file.name}" if wnid else file.path
        groups[wnid].append(replace(file, path=path))
    return groups


def _label_lists(root: Path, within: str) -> Iterator[Path]:
    """Where the labels of a flat val may be."""
    inside = (root, root / "annotations", root / within, root / within / "val")
    whole = root.absolute()
    above = whole.parents[:3] if whole.name in ("ILSVRC", "Data", "CLS-LOC") else ()
    for folder in dict.fromkeys((*inside, *above)):
        yield from (folder / name for name in (SYNSETS, KAGGLE, TINY))


def _read_labels(path: Path) -> dict[str, str]:
    """Stem of each image -> WNID."""
    if path.name == SYNSETS:  # a line an image, in the order of their numbers
        pairs = [(f"ILSVRC2012_val_{n:08d}", x) for n, x in enumerate(read_lines(path), start=1)]
    elif path.name == KAGGLE:  # the WNID, then a box, for each box
        rows = read_table(path, ("ImageId", "PredictionString"), "expected Kaggle's list")
        pairs = [(row["ImageId"], row["PredictionString"].partition(" ")[0]) for _, row in rows]
    else:
        lines = [[*line.split("\t"), "", ""] for line in read_lines(path)]
        pairs = [(file_stem(line[0]), line[1]) for line in lines]
    if wrong := [wnid for _, wnid in pairs if not _WNID.fullmatch(wnid)]:
        what = "one WNID a line" if path.name == SYNSETS else "a WNID for each image"
        raise UsageError(f"{path}: expected {what}, got '{wrong[0]}'")
    return dict(pairs)
