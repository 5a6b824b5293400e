"""All that lies below the root of a data set: its files, and what is no file to look at.

Folders that are links are followed, each target once. The folders themselves come first, then the
links in the order of their paths, so what is read where does not depend on the disk's order.
"""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sce_video.shard.sources import Options, Record
from sce_video.shardset.index import INDEX_NAME
from sce_video.shardset.manifest import MANIFEST_NAME, PLAN_NAME
from sce_video.shardset.reasons import (
    ABOVE,
    AGAIN,
    CLOSED,
    LONG,
    NOWHERE,
    SAME_NAME,
    SHARD_SET,
    SPECIAL,
)
from sce_video.text import one_line

_OF_SYSTEMS = frozenset(
    {"lost+found", "$RECYCLE.BIN", "System Volume Information", "@eaDir", "__MACOSX"}
)
"""Folders that systems make where data lie, often closed: hidden ones, but for their names."""
Identity = tuple[int, int]  # device and inode of a folder


@dataclass
class Tree:
    """What was found below a root."""

    root: Path
    files: list[Record] = field(default_factory=list)
    """Ordered by path; hidden ones (``.DS_Store``, ``._x``) and a system's are not data."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> paths of links that were not followed and the like."""
    used: set[str] = field(default_factory=set)
    """Paths of lists that were read, and of what nobody asked for: nothing to tell of."""

    @cached_property
    def roots(self) -> tuple[Path, Path]:
        """The root from the system's own, with its links and without."""
        return self.root.absolute(), self.root.resolve()

    def below(self, folder: str) -> list[Record]:
        """Files at any depth below a folder; its path ends in ``/``, and ``""`` is the root."""
        if not folder:
            return self.files
        after = folder[:-1] + chr(ord("/") + 1)
        start, end = (bisect_left(self.files, at, key=_path) for at in (folder, after))
        return self.files[start:end]

    def use(self, path: Path) -> Path:
        """``path``, noted as a list that is read, should it lie below the root."""
        self.used.add(utf8(os.path.relpath(path, self.root)))
        return path


def utf8(name: str) -> str:
    """``name`` as one line of UTF-8: foreign bytes become ``\\xNN``, ends of lines ``\\n``."""
    return one_line(name)


def mode_of(path: Path) -> int:
    """``st_mode`` of what lies at a path, links followed; 0 = nothing, or no name of a file.

    Raises:
        OSError: there is no telling, as a folder on the way may not be read.
    """
    try:
        return path.stat().st_mode
    except ValueError:  # a NUL in it
        return 0
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return 0
        raise


def folders(folder: Path) -> list[Path]:
    """Folders directly below ``folder``, by name; none where it is no folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as found:
        names = sorted(entry.name for entry in found if not _is_hidden(entry.name))
    return [path for name in names if stat.S_ISDIR(mode_of(path := folder / name))]


def walk(
    root: Path, options: Options, *, without: Collection[str] = (), sets: bool = False
) -> Tree:
    """Everything below ``root`` but hidden entries and the output folder.

    Args:
        root: of the data set.
        options: of the user.
        without: paths of folders that nobody asked for.
        sets: shard sets of this package are folders like others; else they are left out.

    Raises:
        OSError: a folder cannot be read.
    """
    return _Walk(root, options.out, frozenset(without), sets=sets).tree


class _Walk:
    """One walk: the folders that were read, the links that wait."""

    def __init__(
        self, root: Path, out: Path | None, without: Collection[str], *, sets: bool
    ) -> None:
        self.tree = Tree(root)
        self._without, self._sets = without, sets
        self._out = _identity(out) if out is not None and out.exists() else None
        self._above = {_identity(folder) for folder in root.resolve().parents}
        self._read: dict[Identity, str] = {}  # folder -> the path it is read under
        self._links: list[tuple[str, Path]] = []
        self._list(root, "", linked=False)
        while self._links:
            links, self._links = sorted(self._links), []
            for path, link in links:
                self._follow(path, link)
        self._settle()

    def _leave(self, reason: str, path: str) -> None:
        self.tree.left_out.setdefault(reason, []).append(path)

    def _follow(self, path: str, link: Path) -> None:
        """Read the folder that a link leads to, unless it is read already."""
        target = _identity(link)
        if target in self._above or (where := self._read.get(target)) == "":
            self._leave(ABOVE, path)
        elif where is None:
            self._list(link, path, linked=True)
        else:
            self._leave(ABOVE if path.startswith(f"{where}/") else AGAIN, path)

    def _list(self, top: Path, base: str, *, linked: bool) -> None:
        """Note all files below ``top``; ``base`` is its path below the root."""
        waiting = [(top, base)]
        while waiting:
            folder, path = waiting.pop()
            identity = _identity(folder)
            if path in self._without or (path and identity == self._out):
                continue
            if linked and identity in self._read:
                self._leave(AGAIN, path)
                continue
            with os.scandir(folder) as found:
                entries = [*found]
            if path and not self._sets and _is_shard_set({entry.name for entry in entries}):
                self._leave(SHARD_SET, path)
                continue
            self._read.setdefault(identity, path)
            waiting += self._sort(entries, path)

    def _sort(self, entries: list[os.DirEntry[str]], base: str) -> Iterator[tuple[Path, str]]:
        """Note the files and links among the entries of a folder; yields its folders."""
        for entry in entries:
            if _is_hidden(entry.name):
                continue
            path = f"{base}/{utf8(entry.name)}" if base else utf8(entry.name)
            try:
                found = entry.stat()
            except OSError as error:
                self._leave(_unseen(entry, error), path)
                continue
            if stat.S_ISREG(found.st_mode):
                self.tree.files.append(Record(path, Path(entry.path), found.st_size))
            elif not stat.S_ISDIR(found.st_mode):
                self._leave(SPECIAL, path)
            elif entry.is_symlink():
                self._links.append((path, Path(entry.path)))
            else:
                yield Path(entry.path), path

    def _settle(self) -> None:
        """Order the files; of two whose names became one by :func:`utf8` the first counts."""
        files: list[Record] = []
        for file in sorted(self.tree.files, key=_path):
            if files and files[-1].path == file.path:
                self._leave(SAME_NAME, file.path)
                file = min(files.pop(), file, key=lambda same: os.fsencode(same.source))
            files.append(file)
        self.tree.files = files


def _unseen(entry: os.DirEntry[str], error: OSError) -> str:
    """Why an entry of a folder is left out of which the system tells no more than ``error``.

    Raises:
        OSError: as it came: the folder itself may not be read.
    """
    if entry.is_symlink():
        return CLOSED if error.errno == errno.EACCES else NOWHERE
    if error.errno == errno.ENAMETOOLONG:
        return LONG
    raise error


def _path(file: Record) -> str:
    return file.path


def _identity(folder: Path) -> Identity:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _OF_SYSTEMS


def _is_shard_set(names: Collection[str]) -> bool:
    return PLAN_NAME in names or (MANIFEST_NAME in names and INDEX_NAME in names)
