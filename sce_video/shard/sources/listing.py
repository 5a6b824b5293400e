"""Helpers the sources share: listing folders, matching lists against files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Media, Record, Scan

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"}
    | {".wmv", ".flv", ".ts", ".3gp", ".ogv"}
)
"""What counts as a video file; the container itself is judged by its content later."""
IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png"})
SUFFIXES: Mapping[Media, frozenset[str]] = {"video": VIDEO_SUFFIXES, "image": IMAGE_SUFFIXES}


@dataclass(frozen=True, slots=True)
class Found:
    """One file on disk: its path below the root, POSIX."""

    path: str
    source: Path
    size: int

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
        return Record(self.path, self.source, self.size, label, splits)


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder by name; hidden ones (``.DS_Store``, ``._x``) are not data."""
    with os.scandir(folder) as found:
        return sorted((e for e in found if not e.name.startswith(".")), key=lambda e: e.name)


def folders(folder: Path) -> list[Path]:
    """Folders directly below ``folder``, by name."""
    return [Path(entry.path) for entry in entries(folder) if entry.is_dir()]


def files(folder: Path, root: Path, *, deep: bool = False) -> Iterator[Found]:
    """Files in ``folder``, by name; with ``deep`` those of its sub-folders too."""
    for entry in entries(folder):
        if entry.is_dir():
            if deep and not entry.is_symlink():  # a link may lead back up
                yield from files(Path(entry.path), root, deep=True)
        elif entry.is_file():
            source = Path(entry.path)
            yield Found(relative(source, root), source, entry.stat().st_size)


def relative(source: Path, root: Path) -> str:
    """POSIX path below ``root``, always valid UTF-8 (foreign bytes become ``\\xNN``)."""
    return os.fsencode(source.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


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
            if file.suffix in SUFFIXES[self.media]:
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


def by_path(records: Iterable[Record]) -> tuple[Record, ...]:
    """Records in the order of their paths."""
    return tuple(sorted(records, key=lambda record: record.path))


def number(classes: Iterable[str]) -> dict[str, int]:
    """Class name -> label: the sorted names, numbered."""
    return {name: label for label, name in enumerate(sorted(set(classes)))}


def split_class_folders(
    root: Path, media: Media, splits: Sequence[str], wanted: Sequence[str], expected: str
) -> Scan:
    """Scan ``ROOT/SPLIT/CLASS/*``; labels number the class folders of all ``splits``.

    Args:
        root: folder of the data set.
        media: what counts as a sample.
        splits: folder names that may be there, which are also the values of column ``split``.
        wanted: splits to take; empty = all that are present.
        expected: layout to name in the error, with ``{split}``.

    Raises:
        UsageError: a wanted split has no class folders, or none has.
    """
    present = {split: folders(root / split) for split in splits if (root / split).is_dir()}
    labels = number(folder.name for found in present.values() for folder in found)
    gather = Gather(media)
    records: list[Record] = []
    for split in wanted or present:
        before = len(records)
        for folder in present.get(split, ()):
            taken = gather.take(files(folder, root, deep=True))
            records += [file.record(labels[folder.name], {"split": split}) for file in taken]
        if split in present:
            gather.other += [file.path for file in files(root / split, root)]
        if len(records) == before:
            raise UsageError(f"{root}: expected {expected.format(split=split)}")
    if not records:
        raise UsageError(f"{root}: expected {expected.format(split=splits[0])}")
    return Scan(
        media=media,
        records=by_path(records),
        classes=tuple(labels),
        columns=("split",),
        unlisted=tuple(sorted(gather.other)),
    )
