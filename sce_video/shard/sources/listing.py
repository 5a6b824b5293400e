"""Helpers the sources share: listing folders, reading lists, putting a scan together."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from sce_video.errors import UsageError
from sce_video.shard.sources import Media, Record, Scan

Value = TypeVar("Value")
TWICE = "listed twice with different labels or splits"
"""Why a path is left out of which the first listing holds."""
Placed = tuple[Record, str | None, Mapping[str, str]]
"""A file, the name of its class ("" = none; None = it is in no list or class folder), its splits.
"""
Groups = Mapping[str, Iterable[Record]]
"""Class name -> files, perhaps listed on use only; ``""`` = in no class."""


def make_scan(
    media: Media,
    files: Iterable[Placed],
    labels: Mapping[str, int],
    columns: Iterable[str] = (),
    left_out: Mapping[str, Iterable[str]] | None = None,
) -> Scan:
    """The scan of ``files``: what is no ``media`` or has no place in the data set is unlisted.

    Args:
        media: what counts as a sample.
        files: of several with one path the last counts.
        labels: class name -> label, in their order; a class that is not there has the label -1.
        columns: split columns.
        left_out: reason -> paths, in any order.
    """
    records: dict[str, Record] = {}
    unlisted: list[str] = []  # in no list, or no media file
    for file, name, splits in files:
        if file.media == media and name is not None:
            records[file.path] = replace(file, label=labels.get(name, -1), splits=splits)
        else:
            unlisted.append(file.path)
    reasons = {"missing": (), "unlisted": unlisted, **(left_out or {})}
    return Scan(
        media,
        tuple(records[path] for path in sorted(records)),
        tuple(labels),
        tuple(columns),
        tuple((path, reason) for reason, paths in reasons.items() for path in sorted(paths)),
    )


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder by name; hidden ones (``.DS_Store``, ``._x``) are not data."""
    with os.scandir(folder) as found:
        return sorted((e for e in found if not e.name.startswith(".")), key=lambda e: e.name)


def folders(folder: Path) -> list[Path]:
    """Folders directly below ``folder``, by name."""
    return [Path(entry.path) for entry in entries(folder) if entry.is_dir()]


def files(folder: Path, root: Path, *, deep: bool = False) -> Iterator[Record]:
    """Files in ``folder``, by name; with ``deep`` those of its sub-folders too."""
    for entry in entries(folder):
        if entry.is_dir():
            if deep and not entry.is_symlink():  # a link may lead back up
                yield from files(Path(entry.path), root, deep=True)
        else:
            source, size = Path(entry.path), entry.stat().st_size if entry.is_file() else -1
            yield Record(utf8(source.relative_to(root).as_posix()), source, size)


def utf8(name: str) -> str:
    """``name`` as valid UTF-8: foreign bytes become ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


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
    root: Path,
    places: Sequence[Path],
    lists: Mapping[str, Iterable[tuple[str, str]]],
    labels: Mapping[str, int],
    expected: str,
) -> Scan:
    """Scan of videos in ``CLASS`` folders that lists name.

    Args:
        root: folder of the data set.
        places: the folder of the class folders, and these.
        lists: split column -> (path, value) of each line; of several values the first holds, and
            ``""`` is none.
        labels: class name -> label, in the order of the labels; a class of every listed path.
        expected: layout to name in the error.

    Raises:
        UsageError: there are no videos in class folders, or no lists.
    """
    videos = [file for place in places for file in files(place, root)]
    inside = (file for file in videos if file.source.parent != places[0])
    if not lists or all(file.media != "video" for file in inside):
        raise UsageError(f"{root}: {expected}")
    splits: dict[str, dict[str, str]] = {}
    conflicting: list[str] = []
    for column, lines in lists.items():
        values, twice = first_values(lines)
        conflicting += twice
        for path, value in values.items():
            splits.setdefault(path, {}).update({column: value} if value else {})
    found = [
        (file, file.path.split("/")[-2] if file.path in splits else None, splits.get(file.path, {}))
        for file in videos
    ]
    missing = splits.keys() - {file.path for file, *_ in found if file.media == "video"}
    return make_scan("video", found, labels, lists, {"missing": missing, TWICE: conflicting})


def class_folders(folder: Path, root: Path) -> Groups:
    """The files in ``folder`` by class folder; those in none under ``""``."""
    if not folder.is_dir():
        return {}
    classes = {utf8(path.name): files(path, root, deep=True) for path in folders(folder)}
    return {"": files(folder, root), **classes}


def split_classes(
    root: Path, media: Media, splits: Mapping[str, Groups], wanted: Sequence[str], expected: str
) -> Scan:
    """Scan of splits that are sorted by class; labels number the classes of all ``splits``.

    Args:
        root: folder of the data set.
        media: what counts as a sample.
        splits: value of column ``split`` -> its files by class.
        wanted: splits to take; empty = all that are present.
        expected: layout to name in the error, with ``{split}``.

    Raises:
        UsageError: a wanted split has no files in classes, or none has.
    """
    found: list[Placed] = []
    present = [split for split, groups in splits.items() if any(groups)]
    for split in wanted or present or list(splits)[:1]:
        groups, column = splits[split].items(), {"split": split}
        own = [(file, name or None, column) for name, group in groups for file in group]
        if not any(name and file.media == media for file, name, _ in own):
            raise UsageError(f"{root}: expected {expected.format(split=split)}")
        found += own
    labels = number_names(name for groups in splits.values() for name in groups if name)
    return make_scan(media, found, labels, ["split"])
