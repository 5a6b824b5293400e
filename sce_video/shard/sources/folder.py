"""Any folder: ``ROOT/CLASS/*``, or ``--csv`` with ``path,label[,split]``, or ``--unlabelled``.

Videos or images, not both: the larger part of training is fixed by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from sce_video.errors import UsageError
from sce_video.shard.sources import Media, Options, Record, Scan
from sce_video.shard.sources.listing import (
    TWICE,
    Placed,
    files,
    first_values,
    make_scan,
    number_names,
    read_table,
)
from sce_video.shardset.labels import class_name, number_classes


def scan(name: str, root: Path, options: Options) -> Scan:
    """List a folder.

    Raises:
        UsageError: no media files where they are expected, both kinds, or a wrong list.
    """
    if options.csv is not None:
        return _scan_csv(root, options.csv, options)
    if options.splits:
        raise UsageError(f"{name} takes --split only with a --csv that has a column 'split'")
    found = list(files(root, root, deep=True))
    if options.unlabelled:
        media = media_of(root, found, "videos or images below it")
        return make_scan(media, ((file, "", {}) for file in found), {})
    flat = {file.path: file.path.partition("/")[0] for file in found if file.path.count("/") == 1}
    expected = "class folders CLASS/*, or --csv FILE, or --unlabelled"
    media = media_of(root, (file for file in found if file.path in flat), expected)
    labels = number_names(
        flat[file.path] for file in found if file.path in flat and file.media == media
    )
    return make_scan(media, ((file, flat.get(file.path), {}) for file in found), labels)


def media_of(root: Path, found: Iterable[Record], expected: str) -> Media:
    """The one kind of media among ``found``.

    Raises:
        UsageError: there is none, or both.
    """
    # Of each kind the first counts: in reverse it comes last.
    examples = {file.media: file.path for file in reversed([*found]) if file.media is not None}
    if not examples:
        raise UsageError(f"{root}: expected {expected}")
    if len(examples) > 1:
        raise UsageError(
            f"{root}: videos and images in one set ({', '.join(sorted(examples.values()))}); "
            "shard them apart"
        )
    return next(iter(examples))


def _scan_csv(root: Path, path: Path, options: Options) -> Scan:
    rows, conflicting = first_values(_read_csv(path, unlabelled=options.unlabelled))
    has_splits = any(split is not None for _, split in rows.values())
    if options.splits and not has_splits:
        raise UsageError(f"{path}: --split needs a column 'split'")
    found: list[Placed] = []
    missing = []
    for video, (label, split) in rows.items():
        source = root / video
        if options.splits and split not in options.splits:
            continue
        if source.is_file():
            file = Record(video, source, source.stat().st_size)
            found.append((file, label, {"split": split} if split else {}))
        else:
            missing.append(video)
    expected = f"the videos or images that {path.name} lists"
    media = media_of(root, (file for file, *_ in found), expected)
    labels = number_classes(label for label, _ in rows.values() if label)
    columns = ["split"] if has_splits else []
    return make_scan(media, found, labels, columns, {"missing": missing, TWICE: conflicting})


def _read_csv(path: Path, *, unlabelled: bool) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Path and (label, split) of each line; a split is None where there is no such column."""
    if not path.is_file():
        raise UsageError(f"--csv {path}: no such file")
    columns = ("path",) if unlabelled else ("path", "label")
    expected = "its first line must name the columns path,label[,split]"
    for line, row in read_table(path, columns, expected):
        video = PurePosixPath(row["path"])
        if video.is_absolute() or ".." in video.parts or not video.name:
            raise UsageError(f"{path}, line {line}: '{video}' is no relative path below the root")
        label = None if unlabelled else class_name(row["label"])
        split = row["split"].strip() if "split" in row else None
        yield str(video), (label or "", split)
