"""Helpers the sources share: listing folders, matching lists against files."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sce_video.errors import UsageError
from sce_video.shard.sources import Media, Record, Scan

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"}
    | {".wmv", ".flv", ".ts", ".3gp", ".ogv"}
)
"""What counts as a video file; the container itself is judged by its content later."""
IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png"})
SUFFIXES: Mapping[Media, frozenset[str]] = {"video": VIDEO_SUFFIXES, "image": IMAGE_SUFFIXES}

Row = tuple[int, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Found:
    """One file, on disk or in a tar: its path below the root, POSIX."""

    path: str
    source: Path
    size: int
    offset: int | None = None
    """As :attr:`Record.offset`."""

    @property
    def name(self) -> str:
        """File name without its folders."""
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """File name without folders and last extension."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def suffix(self) -> str:
        """Last extension in lower case, with its dot."""
        return "." + self.name.rpartition(".")[2].lower()

    def record(self, label: int, splits: Mapping[str, str]) -> Record:
        """This file as a sample."""
        return Record(self.path, self.source, self.size, label, splits, self.offset)


Groups = Mapping[str, Iterable[Found]]
"""Class name -> files, perhaps listed on use only; ``""`` = in no class."""


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder by name; hidden ones (``.DS_Store``, ``._x``) are not data."""
    with os.scandir(folder) as found:
        return sorted((e for e in found if not e.name.startswith(".")), key=lambda e: e.name)


def folders(folder: Path) -> list[Path]:
    """Folders directly below ``folder``, by name."""
    return [Path(entry.path) for entry in entries(folder) if entry.is_dir()]


def files(folder: Path, root: Path, *, deep: bool = False) -> Iterator[Found]:
    """Files in ``folder``, by name; with ``deep`` those of its sub-folders too.

    A link to nowhere, a pipe or the like has the size -1.
    """
    for entry in entries(folder):
        if entry.is_dir():
            if deep and not entry.is_symlink():  # a link may lead back up
                yield from files(Path(entry.path), root, deep=True)
        else:
            source, whole = Path(entry.path), entry.is_file()
            yield Found(relative(source, root), source, entry.stat().st_size if whole else -1)


def relative(source: Path, root: Path) -> str:
    """POSIX path below ``root``, as :func:`utf8`."""
    return utf8(source.relative_to(root).as_posix())


def utf8(name: str) -> str:
    """``name`` as valid UTF-8: foreign bytes become ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@dataclass
class Gather:
    """Collects media files of one kind; whatever else lies about is kept as unlisted."""

    media: Media
    found: list[Found] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def take(self, candidates: Iterable[Found]) -> list[Found]:
        """Sort ``candidates`` into media files (returned) and others."""
        media = []
        for file in candidates:
            if file.suffix in SUFFIXES[self.media] and file.size >= 0:
                media.append(file)
            else:
                self.other.append(file.path)
        self.found += media
        return media


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


def read_table(path: Path, columns: Sequence[str], expected: str) -> Iterator[Row]:
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


def by_path(records: Iterable[Record]) -> tuple[Record, ...]:
    """Records in the order of their paths, the last of each path."""
    ordered = sorted(records, key=lambda record: record.path)
    return tuple({record.path: record for record in ordered}.values())


def number(classes: Iterable[str]) -> dict[str, int]:
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
    present: Mapping[str, Found],
    listed: Mapping[str, Mapping[str, str]],
    labels: Mapping[str, int],
    **rest: Any,
) -> Scan:
    """Scan of the videos in ``CLASS`` folders that lists name with their splits.

    Args:
        present: path -> file.
        listed: path -> split column -> value.
        labels: class name -> label, in the order of the labels; a class of every listed path.
        **rest: further fields of the scan; ``unlisted`` are others besides ``present``.
    """
    both = listed.keys() & present.keys()
    unlisted = [*(present.keys() - both), *rest.pop("unlisted")]
    return Scan(
        media="video",
        records=by_path(
            present[path].record(labels[path.split("/")[-2]], listed[path]) for path in both
        ),
        classes=tuple(labels),
        missing=tuple(sorted(listed.keys() - both)),
        unlisted=tuple(sorted(unlisted)),
        **rest,
    )


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
    labels = number(name for groups in splits.values() for name in groups if name)
    gather = Gather(media)
    records: list[Record] = []
    present = [split for split, groups in splits.items() if any(groups)]
    for split in wanted or present or list(splits)[:1]:
        before = len(records)
        for name, group in splits[split].items():
            if name:
                taken = gather.take(group)
                records += [file.record(labels[name], {"split": split}) for file in taken]
            else:
                gather.other += [file.path for file in group]
        if len(records) == before:
            raise UsageError(f"{root}: expected {expected.format(split=split)}")
    return Scan(
        media=media,
        records=by_path(records),
        classes=tuple(labels),
        columns=("split",),
        unlisted=tuple(sorted(gather.other)),
    )
