"""Raw data sets as they are distributed: one module a data set, each with a ``scan``.

A new data set is one module here, one line in :data:`SOURCES`, and one test file.
"""

from __future__ import annotations

import errno
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sce_video.arguments import did_you_mean
from sce_video.errors import UsageError
from sce_video.video.kinds import NOT_READ, SUFFIXES, Media

ARCHIVES = frozenset({".tar", ".gz", ".tgz", ".zip", ".rar", ".7z", ".bz2", ".xz", ".zst", ".lzma"})
ZIPPED = frozenset({".gz", ".tgz"})
"""Last suffix of archives that can be read from their start only."""


def file_stem(path: str) -> str:
    """File name without folders and last extension."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] or name


@dataclass(frozen=True, slots=True)
class Record:
    """One file of a raw data set, on disk or in a tar."""

    path: str  # relative POSIX path below the root: the identity of the sample
    source: Path  # the file to read, or the archive it lies in; appears in no output
    size: int  # bytes; -1 = a member of an archive that holds none, such as a link
    label: int = -1  # index into the classes; -1 = none
    splits: Mapping[str, str] = field(default_factory=dict)
    """Split column -> value; a column may be absent (the sample is in none of its values)."""
    offset: int | None = None
    """None = ``source`` itself; else where its bytes begin in the tar, as stored or unzipped."""
    key: str = ""  # WebDataset key; the plan gives it

    @property
    def part(self) -> Path | None:
        """``source`` where it is a zipped archive and no file on its own."""
        zipped = self.offset is not None and self.source.suffix.lower() in ZIPPED
        return self.source if zipped else None

    @property
    def name(self) -> str:
        """File name without its folders."""
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """:func:`file_stem` of it."""
        return file_stem(self.path)

    @property
    def suffix(self) -> str:
        """Last extension in lower case, with its dot; nothing where there is none."""
        _, dot, extension = self.name.rpartition(".")
        return dot + extension.lower() if dot else ""

    @property
    def media(self) -> Media | None:
        """What it is by its name, of what can be read; None = no such file."""
        return _READ.get(self.suffix) if self.size >= 0 else None

    @property
    def kind(self) -> Media | None:
        """What it is by its name, also of what is not read; None = neither. A GIF is a video."""
        return _KNOWN.get(self.suffix)

    def labelled(self, label: int, splits: Mapping[str, str]) -> Record:
        """The same with its class and splits."""
        return Record(self.path, self.source, self.size, label, splits, self.offset, self.key)

    def named(self, key: str) -> Record:
        """The same with its key."""
        path, source, size = self.path, self.source, self.size
        return Record(path, source, size, self.label, self.splits, self.offset, key)


_KINDS: tuple[Media, ...] = ("image", "video")  # the last counts
_READ = {suffix: media for media in _KINDS for suffix in SUFFIXES[media]}
_KNOWN = {suffix: media for media in _KINDS for suffix in NOT_READ[media]} | _READ


@dataclass(frozen=True)
class Scan:
    """What a source found below its root."""

    media: Media
    records: tuple[Record, ...]  # ordered by path
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()  # split columns, in the order of the index
    rejects: tuple[tuple[str, str], ...] = ()
    """(path, reason) of what is left out."""
    notes: tuple[str, ...] = ()
    """Lines for people: how the folder was understood, and the way out for what is left out."""


@dataclass(frozen=True)
class Options:
    """What a user may ask of a source; each source takes some of it (:class:`Source`)."""

    splits: tuple[str, ...] = ()  # values of column ``split`` to take; empty = all that are present
    csv: Path | None = None
    lists: tuple[str, ...] = ()  # ``FILE``, or ``SPLIT=FILE`` of each
    unlabelled: bool = False
    classes: Path | None = None  # list of the only classes to take
    out: Path | None = None  # folder of the shard set: no input, should it lie below the root

    def given(self) -> set[str]:
        """Names of the command line flags that were used."""
        flags = {
            "--split": self.splits,
            "--csv": self.csv,
            "--list": self.lists,
            "--unlabelled": self.unlabelled,
            "--classes": self.classes,
        }
        return {flag for flag, value in flags.items() if value}


@dataclass(frozen=True)
class Source:
    """A data set the converter knows."""

    module: str  # below ``sce_video.shard.sources``; imported on use
    about: str
    flags: frozenset[str] = frozenset()  # flags of ``Options`` it takes

    def scan(self, name: str, root: Path, options: Options) -> Scan:
        """List the data set below ``root``.

        Raises:
            UsageError: the layout is not the data set's, an option does not apply, or a folder
                cannot be read.
        """
        if wrong := sorted(options.given() - self.flags):
            raise UsageError(f"{name} takes no {wrong[0]}")
        module = importlib.import_module(f"{__name__}.{self.module}")
        scan: Callable[[str, Path, Options], Scan] = module.scan
        try:
            return scan(name, root, options)
        except OSError as error:
            cure = "; make it readable, or move it away" if error.errno == errno.EACCES else ""
            raise UsageError(f"{error.filename or root}: {error.strerror}{cure}") from error


_SPLIT = frozenset({"--split"})
_CLASSES = _SPLIT | {"--classes"}
_KINETICS = "CVDF files or tar.gz, or class folders"

SOURCES: Mapping[str, Source] = {
    **{
        f"kinetics{n}": Source("kinetics", f"Kinetics-{n}: {_KINETICS}", _CLASSES)
        for n in (400, 600, 700)
    },
    "kinetics200": Source("kinetics", "the classes of Kinetics-400 in --classes", _CLASSES),
    "ucf101": Source("ucf101", "UCF101 with its three splits"),
    "hmdb51": Source("hmdb51", "HMDB51 with its three splits"),
    "imagenet": Source(
        "imagenet", "ImageNet: {train,val}/WNID/*.JPEG, its tars, or Kaggle's", _SPLIT
    ),
    "demo": Source("demo", "videos it makes itself where --root is absent", _SPLIT),
    "webdataset": Source("tars", "WebDataset tars made by others: checked, indexed, re-sharded"),
    "folder": Source(
        "folder",
        "your own: [SPLIT/]CLASS/*, or --csv, or --list, or --unlabelled",
        frozenset({"--split", "--csv", "--list", "--unlabelled"}),
    ),
}


def find_source(name: str) -> Source:
    """The source called ``name``.

    Raises:
        UsageError: unknown; the message has the list and the nearest name.
    """
    if name in SOURCES:
        return SOURCES[name]
    hint = did_you_mean(name, (*SOURCES, "verify", "info"))
    raise UsageError(f"unknown data set '{name}'{hint}")
