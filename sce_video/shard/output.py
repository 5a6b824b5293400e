"""The folder a shard set is written to: whose it is, what is finished in it, one writer."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.format import (
    CLASSES_NAME,
    INDEX_NAME,
    MANIFEST_NAME,
    REJECTS_NAME,
    Manifest,
    ShardEntry,
    open_shards,
    write_atomic,
)
from sce_video.shard.plan import Plan, changes
from sce_video.shard.writer import PARTIAL

PLAN_NAME = ".plan.json"
"""The parts of the plan's digest: kept, so that a rerun can say what changed."""
JOURNAL_NAME = ".journal.jsonl"
"""One line a finished shard; gone when the manifest is there."""

_FIXED = (MANIFEST_NAME, INDEX_NAME, REJECTS_NAME, CLASSES_NAME, JOURNAL_NAME, PLAN_NAME)
_TAR = re.compile(r".+-\d{6}\.tar")


@dataclass(frozen=True)
class Journal:
    """One finished shard; without samples it has no file."""

    name: str
    samples: int
    size: int
    """Bytes."""
    sha256: str
    rejects: tuple[tuple[str, str], ...]
    """(path, reason)."""

    def entry(self) -> ShardEntry | None:
        """The manifest entry; None without samples."""
        if not self.samples:
            return None
        return ShardEntry(name=self.name, samples=self.samples, bytes=self.size, sha256=self.sha256)

    def line(self) -> bytes:
        """As written to the journal."""
        fields = [self.name, self.samples, self.size, self.sha256, self.rejects]
        return json.dumps(fields).encode() + b"\n"


class Output:
    """The output folder of one plan, locked while open; use as a context manager.

    Attributes:
        manifest: the finished shard set of this very plan, if it is there.
        journal: the shards that an unfinished conversion of this plan noted as finished.
    """

    def __init__(self, folder: Path, plan: Plan, *, overwrite: bool) -> None:
        self.folder = folder
        self.manifest: Manifest | None = None
        self.journal: list[Journal] = []
        self._plan = plan
        self._overwrite = overwrite
        self._lock = -1

    def __enter__(self) -> Output:
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder}: not a folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder, os.O_RDONLY)
        try:
            self._take_lock()
            self._open()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._lock)  # which unlocks

    def note(self, shard: Journal) -> None:
        """Append a finished shard to the journal, on the disk when this returns."""
        with (self.folder / JOURNAL_NAME).open("ab") as stream:
            stream.write(shard.line())
            stream.flush()
            os.fsync(stream.fileno())

    def keep(self, shards: Sequence[Journal]) -> None:
        """Make ``shards`` all of the journal: others are made again."""
        self.journal = list(shards)
        write_atomic(self.folder / JOURNAL_NAME, b"".join(shard.line() for shard in shards))

    def publish(self, partial: Path, path: Path) -> None:
        """Flush ``partial`` to the disk and rename it to ``path``."""
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)

    def close_journal(self) -> None:
        """The manifest is written: the journal has done its work."""
        os.fsync(self._lock)
        (self.folder / JOURNAL_NAME).unlink()

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"{self.folder}: another conversion is writing here") from error
        except OSError as error:
            # Some network file systems have no locks: two at once are the user's care there.
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise

    def _open(self) -> None:
        # All there is if a run was killed in its first moment.
        (self.folder / (PLAN_NAME + PARTIAL)).unlink(missing_ok=True)
        names = sorted(path.name for path in self.folder.iterdir())
        ours = MANIFEST_NAME in names or PLAN_NAME in names
        if names and not ours:
            raise UsageError(f"{self.folder}: not empty and no shard set (it has {names[0]})")
        if self._overwrite:
            self._delete(names)
        elif ours:
            self._compare()
        for name in names:
            if name.endswith(PARTIAL):
                (self.folder / name).unlink(missing_ok=True)
        if (self.folder / MANIFEST_NAME).is_file():
            self._check_finished()
        if self.manifest is None:
            self._begin()

    def _delete(self, names: list[str]) -> None:
        """Delete a shard set, manifest first: half a deletion must not look like a set."""
        tars = [name for name in names if _TAR.fullmatch(name.removesuffix(PARTIAL))]
        for name in (*_FIXED, *tars):
            (self.folder / name).unlink(missing_ok=True)

    def _compare(self) -> None:
        """Refuse a folder that was made by another plan."""
        path = self.folder / PLAN_NAME
        if path.is_file():
            old = json.loads(path.read_bytes())
            what = changes(old, self._plan.parts)
        else:  # a set that was copied without its hidden files
            same = open_shards(self.folder).manifest.plan_digest == self._plan.digest
            what = "" if same else "files or settings"
        if what:
            raise UsageError(
                f"{self.folder} was made from other input: changed {what}. "
                "--overwrite starts again, --out writes elsewhere"
            )

    def _check_finished(self) -> None:
        """A set with all of its files is complete; else what lacks is made again."""
        manifest = open_shards(self.folder).manifest
        sizes = {self.folder / shard.name: shard.bytes for shard in manifest.shards}
        lost = [p for p, size in sizes.items() if not p.is_file() or p.stat().st_size != size]
        lost += [p for p in map(self.folder.joinpath, _FIXED[1:4]) if not p.is_file()]
        if lost:
            what = f"missing or cut files ({len(lost)}, first {lost[0].name}) are made again"
            print(f"{self.folder}: {what}", file=sys.stderr)
            self.keep(self._journal_of(manifest))
            (self.folder / MANIFEST_NAME).unlink()
            return
        (self.folder / JOURNAL_NAME).unlink(missing_ok=True)  # a run was killed in its last moment
        self.manifest = manifest

    def _journal_of(self, manifest: Manifest) -> list[Journal]:
        """A finished set as the journal that led to it, less shards of which it is not known."""
        path = self.folder / REJECTS_NAME
        reasons = {}
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as stream:
                reasons = {row["path"]: row["reason"] for row in csv.DictReader(stream)}
        entries = {shard.name: shard for shard in manifest.shards}
        journal = []
        for number, items in enumerate(self._plan.shards):
            name = self._plan.shard_name(number)
            nothing = ShardEntry(name=name, samples=0, bytes=0, sha256="")
            entry = entries.get(name, nothing)
            paths = [item.record.path for item in items]
            rejects = tuple((path, reasons[path]) for path in paths if path in reasons)
            if entry.samples + len(rejects) == len(items):
                journal.append(Journal(name, entry.samples, entry.bytes, entry.sha256, rejects))
        return journal

    def _begin(self) -> None:
        path = self.folder / PLAN_NAME
        if not path.is_file():
            text = json.dumps(dict(self._plan.parts), indent=1, ensure_ascii=False) + "\n"
            write_atomic(path, text.encode())
        self.journal = _read_journal(self.folder / JOURNAL_NAME)


def _read_journal(path: Path) -> list[Journal]:
    """Whole lines of a journal; a line that a crash cut off ends it."""
    shards: list[Journal] = []
    if not path.is_file():
        return shards
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        name, samples, size, sha256, rejects = json.loads(line)
        shards.append(
            Journal(name, samples, size, sha256, tuple((path, reason) for path, reason in rejects))
        )
    return shards
