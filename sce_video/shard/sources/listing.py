"""Helpers the sources share: reading lists, numbering classes, putting a scan together."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from sce_video.errors import UsageError
from sce_video.shard.sources import ARCHIVES, NOT_READ, Media, Record, Scan
from sce_video.shard.sources.tree import Tree, folders, utf8
from sce_video.shardset import reasons

Value = TypeVar("Value")
Placed = tuple[Record, str | None, Mapping[str, str]]
"""A file, the name of its class ("" = none; None = it is in no list or class folder), its splits.
"""
Groups = Mapping[str | None, Iterable[Record]]
"""Class name -> files, perhaps listed on use only; ``""`` = without a class, None = elsewhere."""
READ: Mapping[Media, str] = {
    "video": "MP4, MOV, Matroska, WebM, AVI and MPEG",
    "image": "JPEG and PNG",
}
APART = "shard them apart as 'folder'"
"""The way out for videos or images that lie beside a data set of others."""


def make_scan(
    tree: Tree,
    media: Media,
    files: Iterable[Placed],
    labels: Mapping[str, int],
    columns: Iterable[str] = (),
    left_out: Mapping[str, Iterable[str]] | None = None,
    cure: str = APART,
) -> Scan:
    """The scan of ``files``; all else in ``tree`` is left out, each with its reason.

    Args:
        tree: what lies below the root.
        media: what counts as a sample.
        files: of several with one path the last counts.
        labels: class name -> label, in their order; a class that is not there has the label -1.
        columns: split columns.
        left_out: reason -> paths, in any order; they are told even where a file is there.
        cure: what to do for media that have no place in the data set.
    """
    records: dict[str, Record] = {}
    others: dict[str, Record] = {}
    seen: set[int] = set()  # sources by identity: they are handed on as they are, and many
    for file, name, splits in files:
        seen.add(id(file.source))
        if file.media == media and name is not None:
            records[file.path] = replace(file, label=labels.get(name, -1), splits=splits)
        else:
            others[file.path] = file
    said = {path for paths in (left_out or {}).values() for path in paths} | tree.used
    others |= {file.path: file for file in tree.files if id(file.source) not in seen}
    found: dict[str, list[str]] = {reasons.MISSING: []}
    for path, file in others.items():
        if path not in records and path not in said:
            found.setdefault(_reason(file, media), []).append(path)
    for reason, paths in [*tree.left_out.items(), *(left_out or {}).items()]:
        found.setdefault(reason, []).extend(paths)
    return Scan(
        media,
        tuple(records[path] for path in sorted(records)),
        tuple(labels),
        tuple(columns),
        tuple((path, reason) for reason, paths in found.items() for path in sorted(paths)),
        tuple(_notes(found, media, cure)),
    )


def _reason(file: Record, media: Media) -> str:
    """Why a file is no sample of a set of ``media``."""
    if file.size < 0:
        return reasons.IN_ARCHIVE
    if file.media == media:
        return reasons.ELSEWHERE
    if file.suffix in NOT_READ[media]:
        return reasons.NOT_READ[media]
    if file.kind is not None:
        return reasons.BESIDE[media]
    return reasons.ARCHIVE if file.suffix in ARCHIVES else reasons.NOT_MEDIA[media]


def _notes(found: Mapping[str, Sequence[str]], media: Media, cure: str) -> Iterator[str]:
    """The way out for media that are left out, a line a reason."""
    cures = {
        reasons.ELSEWHERE: cure,
        reasons.BESIDE[media]: APART,
        reasons.NOT_READ[media]: f"{READ[media]} are",
        reasons.SAME_STEM: "keep one of each",
    }
    for reason, way in cures.items():
        if paths := found.get(reason):
            yield f"{len(paths):,} left out: {reason} (first {min(paths)!r}); {way}"


def nothing_found(tree: Tree, files: Iterable[Record], expected: str) -> UsageError:
    """The error that a layout is not there: what was expected, and what lies there instead.

    Args:
        tree: what lies below the root.
        files: those of it, or of its archives, that tell something.
        expected: the layout, in words.
    """
    found: dict[str, Counter[str]] = {}
    others = []
    for file in files:
        if file.media is not None:
            way = "elsewhere"
        elif file.suffix in NOT_READ["video"] | NOT_READ["image"]:
            way = f"not read: {READ[file.kind or 'video']} are; convert them"
        elif file.suffix in ARCHIVES:
            way = "packed"
        else:
            others.append(file.path)
            continue
        found.setdefault(way, Counter())[file.suffix] += 1
    hints = [
        f"{', '.join(f'{count:,} {suffix}' for suffix, count in counts.most_common(4))} ({way})"
        for way, counts in found.items()
    ]
    for reason, paths in tree.left_out.items():
        hints.append(f"{min(paths)!r}{' and more' * (len(paths) > 1)} ({reason})")
    if others and not hints:
        hints.append(f"{len(others):,} files of other names (first {min(others)!r})")
    told = "; found " * bool(hints) + ", ".join(hints)
    return UsageError(f"{tree.root}: expected {expected}{told}")


def read_lines(path: Path) -> list[str]:
    """Non-empty lines of a UTF-8 text file, stripped.

    Raises:
        UsageError: the file is not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a UTF-8 text file") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_table(
    path: Path, columns: Sequence[str], expected: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a csv whose first line names at least ``columns``, each with its line number.

    Raises:
        UsageError: a column lacks, or the file is no csv in UTF-8; ``expected`` says what is.
    """
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream, restval="")
        try:
            for column in columns:
                if column not in (rows.fieldnames or ()):
                    raise UsageError(f"{path}: no column '{column}'; {expected}")
            for row in rows:
                yield rows.line_num, row
        except (UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{path}: not a csv in UTF-8 ({error})") from error


def first_values(lines: Iterable[tuple[str, Value]]) -> tuple[dict[str, Value], list[str]]:
    """What each name in a list means, and names listed again with another meaning."""
    first: dict[str, Value] = {}
    conflicting = [name for name, value in lines if first.setdefault(name, value) != value]
    return first, conflicting


def number_names(classes: Iterable[str]) -> dict[str, int]:
    """Class name -> label: the sorted names, numbered."""
    return {name: label for label, name in enumerate(sorted(set(classes)))}


def check_splits(name: str, wanted: Sequence[str], splits: Iterable[str]) -> None:
    """Refuse splits that data set ``name`` does not have.

    Raises:
        UsageError: there is one.
    """
    for split in wanted:
        if split not in splits:
            raise UsageError(f"{name}: no split '{split}'; it has {', '.join(splits)}")


def listed_videos(
    tree: Tree,
    place: str,
    lists: Mapping[str, Iterable[tuple[str, str]]],
    labels: Mapping[str, int],
    expected: str,
) -> Scan:
    """Scan of videos in ``CLASS`` folders that lists name; their suffix may be another one.

    Args:
        tree: what lies below the root.
        place: path of the folder of the class folders, with its ``/``; ``""`` is the root.
        lists: split column -> (path, value) of each line; of several values the first holds, and
            ``""`` is none.
        labels: class name -> label, in the order of the labels; a class of every listed path.
        expected: layout to name in the error.

    Raises:
        UsageError: there are no videos in class folders, or no lists.
    """
    inside = [f for f in tree.below(place) if f.media and "/" in f.path.removeprefix(place)]
    if not lists or all(file.media != "video" for file in inside):
        raise nothing_found(tree, tree.files, expected)
    splits: dict[str, dict[str, str]] = {}
    conflicting: list[str] = []
    for column, lines in lists.items():
        values, twice = first_values(lines)
        conflicting += [path for path in twice if path not in conflicting]
        for path, value in values.items():
            splits.setdefault(path, {}).update({column: value} if value else {})
    stems: dict[tuple[str, str], list[Record]] = {}  # class folder and stem -> files
    for file in inside:
        if file.media == "video":
            stems.setdefault(_class_and_stem(file.path, place), []).append(file)
    found: list[Placed] = []
    missing, spare = [], []
    for path, own in splits.items():
        same = stems.get(_class_and_stem(path, place), [])
        same.sort(key=lambda file: (file.path != path, file.path.count("/"), file.path))
        if same:
            found.append((same[0], path.removeprefix(place).partition("/")[0], own))
            spare += [file.path for file in same[1:] if file.path not in splits]
        else:
            missing.append(path)
    left_out = {reasons.MISSING: missing, reasons.SAME_STEM: spare, reasons.TWICE: conflicting}
    return make_scan(tree, "video", found, labels, lists, left_out)


def _class_and_stem(path: str, place: str) -> tuple[str, str]:
    inner = path.removeprefix(place)
    name = inner.rpartition("/")[2]
    return inner.partition("/")[0], name.rpartition(".")[0] or name


def class_folders(tree: Tree, place: str) -> dict[str | None, list[Record]]:
    """The files in a folder by class folder, at any depth; those in none under None.

    Args:
        tree: what lies below the root.
        place: path of the folder; it need not be there, nor be in ``tree``.
    """
    names = [utf8(path.name) for path in folders(tree.root / place)]
    groups: dict[str | None, list[Record]] = {None: [], **{name: [] for name in names}}
    for file in tree.below(f"{place}/"):
        name, _, inner = file.path.removeprefix(f"{place}/").partition("/")
        groups.setdefault(name if inner else None, []).append(file)
    return groups


def split_classes(
    tree: Tree,
    media: Media,
    splits: Mapping[str, Groups],
    wanted: Sequence[str],
    expected: str,
    cure: str = APART,
) -> Scan:
    """Scan of splits that are sorted by class; labels number the classes of all ``splits``.

    Args:
        tree: what lies below the root.
        media: what counts as a sample.
        splits: value of column ``split`` -> its files by class.
        wanted: splits to take; empty = all that are present.
        expected: layout to name in the error, with ``{split}``.
        cure: as in :func:`make_scan`.

    Raises:
        UsageError: a wanted split has no files in classes, or none has.
    """
    found: list[Placed] = []
    present = [split for split, groups in splits.items() if groups.keys() - {None}]
    for split in wanted or present or list(splits)[:1]:
        groups, column = splits[split].items(), {"split": split}
        own = [(file, name, column) for name, group in groups for file in group]
        if not any(name is not None and file.media == media for file, name, _ in own):
            raise nothing_found(tree, tree.files, expected.format(split=split))
        found += own
    labels = number_names(name for groups in splits.values() for name in groups if name)
    return make_scan(tree, media, found, labels, ["split"], cure=cure)
