"""Any folder: ``ROOT/CLASS/*``, or ``--csv`` with ``path,label[,split]``, or ``--unlabelled``.

Videos or images, not both: the larger part of training is fixed by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from sce_video.errors import UsageError
from sce_video.shard.sources import Media, Options, Record, Scan
from sce_video.shard.sources.listing import (
    SUFFIXES,
    Found,
    Gather,
    by_path,
    files,
    number,
    read_table,
    relative,
)


def scan(name: str, root: Path, options: Options) -> Scan:
    """List a folder.

    Raises:
        UsageError: no media files where they are expected, both kinds, or a wrong list.
    """
    if options.csv is not None:
        return _scan_csv(root, options.csv, options)
    if options.splits:
        raise UsageError(f"{name} takes --split only with a --csv that has a column 'split'")
    if options.unlabelled:
        return _scan_unlabelled(root)
    return _scan_classes(root)


def _scan_unlabelled(root: Path) -> Scan:
    found = list(files(root, root, deep=True))
    media = media_of(root, found, "videos or images below it")
    gather = Gather(media)
    records = [file.record(-1, {}) for file in gather.take(found)]
    return Scan(media, by_path(records), unlisted=tuple(sorted(gather.other)))


def _scan_classes(root: Path) -> Scan:
    found = list(files(root, root, deep=True))
    flat = [file for file in found if file.path.count("/") == 1]
    media = media_of(root, flat, "class folders CLASS/*, or --csv FILE, or --unlabelled")
    gather = Gather(media, other=[file.path for file in found if file.path.count("/") != 1])
    taken = gather.take(flat)
    labels = number(file.path.partition("/")[0] for file in taken)
    records = [file.record(labels[file.path.partition("/")[0]], {}) for file in taken]
    return Scan(media, by_path(records), tuple(labels), unlisted=tuple(sorted(gather.other)))


def media_of(root: Path, found: Iterable[Found], expected: str) -> Media:
    """The one kind of media among ``found``."""
    examples: dict[Media, str] = {}
    for file in found:
        for media, suffixes in SUFFIXES.items():
            if file.suffix in suffixes and file.size >= 0:
                examples.setdefault(media, file.path)
    if not examples:
        raise UsageError(f"{root}: expected {expected}")
    if len(examples) > 1:
        raise UsageError(
            f"{root}: videos and images in one set ({', '.join(sorted(examples.values()))}); "
            "shard them apart"
        )
    return next(iter(examples))


def _scan_csv(root: Path, path: Path, options: Options) -> Scan:
    rows, has_splits, conflicting = _read_csv(path, unlabelled=options.unlabelled)
    if options.splits and not has_splits:
        raise UsageError(f"{path}: --split needs a column 'split'")
    labels = number_labels(label for label, _ in rows.values() if label)
    found: list[Found] = []
    missing = []
    for video, (_, split) in rows.items():
        if options.splits and split not in options.splits:
            continue
        source = root / video
        if source.is_file():
            found.append(Found(relative(source, root), source, source.stat().st_size))
        else:
            missing.append(video)
    media = media_of(root, found, f"the videos or images that {path.name} lists")
    gather = Gather(media)
    records: list[Record] = []
    for file in gather.take(found):
        label, split = rows[file.path]
        records.append(file.record(labels.get(label, -1), {"split": split} if split else {}))
    return Scan(
        media,
        by_path(records),
        tuple(labels),
        ("split",) if has_splits else (),
        missing=tuple(sorted(missing)),
        unlisted=tuple(sorted(gather.other)),
        conflicting=conflicting,
    )


def _read_csv(
    path: Path, *, unlabelled: bool
) -> tuple[dict[str, tuple[str, str]], bool, tuple[str, ...]]:
    """Path -> (label, split), whether there is a split column, paths listed with two meanings."""
    if not path.is_file():
        raise UsageError(f"--csv {path}: no such file")
    rows: dict[str, tuple[str, str]] = {}
    conflicting = []
    has_splits = False
    columns = ("path",) if unlabelled else ("path", "label")
    expected = "its first line must name the columns path,label[,split]"
    for line, row in read_table(path, columns, expected):
        video = PurePosixPath(row["path"])
        if video.is_absolute() or ".." in video.parts or not video.name:
            raise UsageError(f"{path}, line {line}: '{video}' is no relative path below the root")
        has_splits = "split" in row
        label = "" if unlabelled else row["label"].strip()
        value = ("" if label == "-1" else label, row.get("split", "").strip())
        if rows.setdefault(str(video), value) != value:
            conflicting.append(str(video))
    return rows, has_splits, tuple(sorted(conflicting))


def number_labels(labels: Iterable[str]) -> dict[str, int]:
    """Class name -> label; names that are all whole numbers are sorted as numbers."""
    names = set(labels)
    if all(name.isdecimal() for name in names):
        return {name: label for label, name in enumerate(sorted(names, key=int))}
    return number(names)
