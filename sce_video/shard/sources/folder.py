"""Any folder: by class, by split and class, by lists, or without labels.

``ROOT/CLASS/*`` or ``ROOT/{train,val,test}/CLASS/*``; files in sub-folders of a class are of that
class. Videos or images, not both: the larger part of training is fixed by it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Record, Scan
from sce_video.shard.sources.listing import check_splits, number_names, split_classes
from sce_video.shard.sources.lists import scan_lists
from sce_video.shard.sources.scans import Placed, make_scan, nothing_found
from sce_video.shard.sources.tree import Tree, walk
from sce_video.video.kinds import Media

SPLITS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of folders that are splits, in lower case."""
EXPECTED = "class folders CLASS/* or SPLIT/CLASS/*, or --csv, --list, or --unlabelled"
CURE = "say what they are with --csv or --list, put them into class folders, or take --unlabelled"
MOST_PICTURES = 10  # to a video, where both lie in the same folders


def scan(name: str, root: Path, options: Options) -> Scan:
    """List a folder.

    Raises:
        UsageError: no media files where they are expected, both kinds of them, no telling whether
            folders are splits or classes, or a wrong list.
    """
    tree = walk(root, options)
    if options.csv is not None or options.lists:
        return scan_lists(tree, options)
    if options.unlabelled:
        if options.splits:
            raise UsageError(f"{name} takes --split with split folders or lists that have splits")
        media = _media_of(tree, {"": tree.files}, "videos or images below it")
        return make_scan(tree, media, ((file, "", {}) for file in tree.files), {})
    media = _media_of(tree, _units(tree), EXPECTED)
    files = [file for file in tree.files if file.media == media]
    splits = _split_folders(root, files)
    if not splits:
        if options.splits:
            raise UsageError(f"{name} takes --split with split folders or lists that have splits")
        return _scan_classes(tree, media, files)
    check_splits(name, options.splits, splits)
    return _scan_splits(tree, media, files, splits, options)


def _units(tree: Tree) -> dict[str, list[Record]]:
    """Files by what may be their class: the folder below a split's, else the first."""
    units: dict[str, list[Record]] = defaultdict(list)
    for file in tree.files:
        first, *inner = file.path.split("/")
        if inner:
            units[inner[0] if first.lower() in SPLITS and inner[1:] else first].append(file)
    return units


def _media_of(tree: Tree, units: Mapping[str, Iterable[Record]], expected: str) -> Media:
    """The kind of media that is meant.

    The one that lies in at least twice as many class folders as the other; else the videos, if
    there are at most :data:`MOST_PICTURES` to each and at least four times as many folders with
    videos as of pictures alone.

    Raises:
        UsageError: there is none that is read, or it is not clear.
    """
    counts = {  # a GIF may be either
        unit: Counter(file.kind for file in files if file.suffix != ".gif")
        for unit, files in units.items()
    }
    videos = {unit for unit, count in counts.items() if count["video"]}
    images = {unit for unit, count in counts.items() if count["image"]}
    total = sum(counts.values(), Counter())
    few = total["image"] <= MOST_PICTURES * total["video"]
    media: Media
    if len(videos) >= 2 * len(images) or (few and len(videos) >= 4 * len(images - videos)):
        media = "video"
    elif len(images) >= 2 * len(videos):
        media = "image"
    else:
        raise UsageError(
            f"{tree.root}: {total['video']:,} videos and {total['image']:,} pictures, and either "
            "may be meant; list those you mean (--list), or move the others away"
        )
    if all(file.media != media for files in units.values() for file in files):
        instead = (file for file in tree.files if file.kind in (media, None))
        raise nothing_found(tree, instead, expected)
    return media


def _split_folders(root: Path, files: Iterable[Record]) -> dict[str, str]:
    """Split -> its folder, where folders are splits and hold class folders; else nothing.

    Raises:
        UsageError: there are classes beside them, or splits without classes and no class at all.
    """
    deep: dict[str, bool] = {}  # first folder -> whether there are files in folders in it
    for file in files:
        first, *inner = file.path.split("/")
        if inner:
            deep[first] = deep.get(first, False) or len(inner) > 1
    named = {folder for folder in deep if folder.lower() in SPLITS}
    others = sorted(deep.keys() - named)
    splits = sorted(folder for folder in named if deep[folder])
    if others and splits:
        raise UsageError(
            f"{root}: {splits[0]!r} holds class folders as a split does, and {others[0]!r} lies "
            "beside it; move one of them away, or list what you mean (--list)"
        )
    if named and not others and not splits:
        raise UsageError(
            f"{root}: {min(named)!r} holds files and no class folders; give their classes with "
            "--csv or --list, or take --unlabelled"
        )
    found: dict[str, str] = {}
    for folder in splits:
        if (other := found.setdefault(SPLITS[folder.lower()], folder)) != folder:
            raise UsageError(f"{root}: {other!r} and {folder!r} are one split; move one away")
    return found


def _scan_splits(
    tree: Tree, media: Media, files: Iterable[Record], splits: Mapping[str, str], options: Options
) -> Scan:
    groups: dict[str, dict[str | None, list[Record]]] = {split: {} for split in splits}
    names = {folder: split for split, folder in splits.items()}
    for file in files:
        first, _, inner = file.path.partition("/")
        if first not in names:
            continue
        if options.splits and names[first] not in options.splits:
            tree.used.add(file.path)
        group = inner.partition("/")[0] if "/" in inner else None
        groups[names[first]].setdefault(group, []).append(file)
    return split_classes(tree, media, groups, options.splits, "{split}/CLASS/*", CURE)


def _scan_classes(tree: Tree, media: Media, files: Iterable[Record]) -> Scan:
    classes = {file.path: file.path.partition("/")[0] for file in files if "/" in file.path}
    if not classes:
        raise nothing_found(tree, tree.files, EXPECTED)
    nested = sorted(path for path in classes if path.count("/") > 1)
    names = set(classes.values())
    if len(nested) == len(classes) and len(names) == 1:
        raise UsageError(
            f"{tree.root}: all {media}s lie below {min(names)!r} and in folders there; give that "
            "as --root, or take --unlabelled"
        )
    labels = number_names(names)
    placed: list[Placed] = [(f, classes[f.path], {}) for f in files if f.path in classes]
    found = make_scan(tree, media, placed, labels, cure=CURE)
    notes = []
    if len(names) == 1:
        notes.append(
            f"all {media}s are of one class, {min(names)!r}, as they lie in one folder; to give "
            "others list them (--csv, --list), to give none take --unlabelled"
        )
    if nested:
        notes.append(
            f"{len(nested):,} {media}s in sub-folders count to their first folder: "
            f"{nested[0]!r} is of class {classes[nested[0]]!r}"
        )
    if likely := [name for name in labels if name.lower() in SPLITS]:
        notes.append(f"{likely[0]!r} is taken for a class, as it lies beside class folders")
    return replace(found, notes=(*notes, *found.notes))
