"""Helpers the sources share: reading lists, numbering classes, class folders, listed videos."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

from sce_video.errors import UsageError
from sce_video.files import open_plain, read_plain
from sce_video.shard.sources import Record, Scan, file_stem
from sce_video.shard.sources.scans import APART, Placed, make_scan, nothing_found
from sce_video.shard.sources.tree import Tree, folders, utf8
from sce_video.shardset import reasons
from sce_video.video.kinds import Media

Value = TypeVar("Value")
Groups = Mapping[str | None, Iterable[Record]]
"""Class name -> files, perhaps listed on use only; ``""`` = without a class, None = elsewhere."""


_LONGEST = 1 << 20  # characters of a line of a csv
_ENDS = re.compile("\r\n|\n|\r")  # what names hold, such as U+2028, ends no line


def read_lines(path: Path) -> list[str]:
    """Non-empty lines of a UTF-8 text file, stripped.

    Raises:
        OSError: it is no file, or too large a one.
        UsageError: the file is not UTF-8 text.
    """
    try:
        text = read_plain(path, follow=True).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a UTF-8 text file") from error
    return [line.strip() for line in _ENDS.split(text) if line.strip()]


def read_table(
    path: Path, columns: Sequence[str], expected: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a csv whose first line names at least ``columns``, each with its line number.

    Raises:
        OSError: it is no file.
        UsageError: a column lacks or is there twice, or the file is no csv in UTF-8; ``expected``
            says what is.
    """
    descriptor = open_plain(path, follow=True)
    with os.fdopen(descriptor, encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(_lines(stream), restval="")
        try:
            names = rows.fieldnames or ()
            for column in columns:
                if column not in names:
                    raise UsageError(f"{path}: no column '{column}'; {expected}")
            # Those without a name, which sheets leave behind the last, are not read.
            if twice := [name for name, times in Counter(names).items() if times > 1 and name]:
                raise UsageError(f"{path}: two columns {twice[0]!r}; name each once")
            for row in rows:
                yield rows.line_num, row
        except (UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{path}: not a csv in UTF-8 ({error})") from error


def _lines(stream: TextIO) -> Iterator[str]:
    """Lines of a csv, one at a time in memory, with their ends."""
    while line := stream.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise csv.Error(f"a line of {_LONGEST:,} characters or more")
        yield line


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
        place: path of the folder of the class folders, with its ``/``; ``""`` is the root. They may
            lie in the root or in another folder of it.
        lists: split column -> (path, value) of each line; of several values the first holds, and
            ``""`` is none.
        labels: class name -> label, in the order of the labels; a class of every listed path.
        expected: layout to name in the error.

    Raises:
        UsageError: there are no videos in class folders, or in those of several places, or no
            lists.
    """
    listed, place = place, _place_of(tree, place, labels)
    inside = [f for f in tree.below(place) if f.media and "/" in f.path.removeprefix(place)]
    if not lists or all(file.media != "video" for file in inside):
        raise nothing_found(tree, tree.files, expected)
    splits: dict[str, dict[str, str]] = {}
    conflicting: list[str] = []
    for column, lines in lists.items():
        own = ((place + path.removeprefix(listed), value) for path, value in lines)
        values, twice = first_values(own)
        conflicting += [path for path in twice if path not in conflicting]
        for path, value in values.items():
            splits.setdefault(path, {}).update({column: value} if value else {})
    stems: dict[tuple[str, str], list[Record]] = {}  # class folder and stem -> files
    for file in inside:
        if file.media == "video":
            stems.setdefault(_class_and_stem(file.path, place), []).append(file)
    found: list[Placed] = []
    missing, spare = [], []
    for path, columns in splits.items():
        same = stems.get(_class_and_stem(path, place), [])
        same.sort(key=lambda file: (file.path != path, file.path.count("/"), file.path))
        if same:
            found.append((same[0], path.removeprefix(place).partition("/")[0], columns))
            spare += [file.path for file in same[1:] if file.path not in splits]
        else:
            missing.append(path)
    left_out = {reasons.MISSING: missing, reasons.SAME_STEM: spare, reasons.TWICE: conflicting}
    return make_scan(tree, "video", found, labels, lists, left_out)


def _place_of(tree: Tree, place: str, classes: Iterable[str]) -> str:
    """Where the folders of the classes are that hold videos: ``place``, else the root or one in it.

    Raises:
        UsageError: they are in several.
    """
    names = list(classes)
    tops = dict.fromkeys([place, "", *(f"{utf8(folder.name)}/" for folder in folders(tree.root))])
    held = [
        top
        for top in tops
        if any(file.media == "video" for name in names for file in tree.below(f"{top}{name}/"))
    ]
    if len(held) > 1 and place not in held:
        raise UsageError(
            f"{tree.root}: its classes lie in {held[0] or '.'!r} and in {held[1]!r}; move one away"
        )
    return place if place in held or not held else held[0]


def _class_and_stem(path: str, place: str) -> tuple[str, str]:
    return path.removeprefix(place).partition("/")[0], file_stem(path)


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
