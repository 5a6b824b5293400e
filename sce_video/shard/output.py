"""The folder a shard set is written to: whose it is, what is finished in it, one writer."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from sce_video.documents import DocumentError, parse_json
from sce_video.errors import UsageError, VerificationError
from sce_video.files import PARTIAL, flush, write_whole
from sce_video.lock import LOCK_NAME, Lock
from sce_video.shard.plan import ConversionPlan, changes
from sce_video.shardset.index import INDEX_NAME, open_shards
from sce_video.shardset.manifest import (
    CLASSES_NAME,
    JOURNAL_NAME,
    MANIFEST_NAME,
    PLAN_NAME,
    REJECTS_NAME,
    Manifest,
    ShardEntry,
    read_part,
    read_rejects,
)
from sce_video.terminal import note
from sce_video.text import cell

_WRITTEN_LAST = (INDEX_NAME, REJECTS_NAME, CLASSES_NAME)
_TAR = re.compile(r".+-\d{6}\.tar")
_AGAIN = "--overwrite starts again"
_LARGEST = 1 << 28  # bytes of the plan, and of the journal
_REMAINS = re.compile(rf"{re.escape(PLAN_NAME)}{PARTIAL}|{LOCK_NAME}(\..+{PARTIAL})?")


class JournalEntry(NamedTuple):
    """One finished shard; without samples it has no file."""

    shard: ShardEntry
    rejects: tuple[tuple[str, str], ...]  # (path, reason)


@contextmanager
def output_folder(
    folder: Path, plan: ConversionPlan, *, overwrite: bool
) -> Iterator[tuple[Manifest | list[JournalEntry], Lock]]:
    """Context: the output folder of ``plan``, made if absent, locked, and cleared of remains.

    Yields:
        The manifest of the finished set of this very plan, if it is there; else the shards that an
        unfinished conversion of it noted as finished. And the lock.

    Raises:
        UsageError: it is no folder, holds something else, or another conversion writes there.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    _check_ours(folder)  # before anything is written there
    lock = Lock(folder / LOCK_NAME)
    # Where nothing can be written there may be a finished set, and nothing to guard.
    with lock if os.access(folder, os.W_OK) else nullcontext():
        _clear(folder, plan, overwrite)
        yield _finished(folder, plan) or _unfinished(folder, plan), lock


def write_journal(folder: Path, entries: Iterable[JournalEntry]) -> None:
    """Make ``entries`` all of the journal: other shards are made again."""
    lines = [json.dumps([*dict(shard).values(), rejects]) for shard, rejects in entries]
    write_whole(folder / JOURNAL_NAME, "".join(f"{line}\n" for line in lines).encode())


def end_journal(folder: Path) -> None:
    """The manifest is written: the journal has done its work."""
    flush(folder)
    (folder / JOURNAL_NAME).unlink()


def _check_ours(folder: Path) -> bool:
    """Whether a plan or a set is there; refuse a folder that holds something else.

    What a conversion that was killed in its first moment left is nothing.
    """
    names = sorted(path.name for path in folder.iterdir())
    ours = MANIFEST_NAME in names or PLAN_NAME in names
    foreign = [name for name in names if not _REMAINS.fullmatch(name)]
    if foreign and not ours:
        raise UsageError(f"{folder}: not empty and no shard set (it has {foreign[0]})")
    return ours


def _clear(folder: Path, plan: ConversionPlan, overwrite: bool) -> None:
    """Delete what a crash left, or with ``overwrite`` the set; refuse what is not of ``plan``."""
    ours = _check_ours(folder)
    names = sorted(path.name for path in folder.iterdir())
    useless = [name for name in names if name.endswith(PARTIAL)]
    if overwrite:  # half a deletion must not look like a set: manifest first; nor be foreign
        tars = [name for name in names if _TAR.fullmatch(name)]
        useless = [MANIFEST_NAME, *_WRITTEN_LAST, JOURNAL_NAME, *tars, *useless, PLAN_NAME]
    elif ours:
        _compare(folder, plan)
    for name in useless:
        (folder / name).unlink(missing_ok=True)


def _compare(folder: Path, plan: ConversionPlan) -> None:
    """Refuse a folder that was made by another plan."""
    path = folder / PLAN_NAME
    if os.path.lexists(path):
        what = changes(_read_plan(path), plan.parts)
    else:  # a set that was copied without its hidden files
        same = open_shards(folder).manifest.plan_digest == plan.digest
        what = "" if same else "files or settings"
    if what:
        raise UsageError(
            f"{folder} was made from other input: changed {what}. "
            "--overwrite starts again, --out writes elsewhere"
        )


def _read_plan(path: Path) -> dict[str, str]:
    """The parts of a plan.

    Raises:
        VerificationError: it is none.
    """
    try:
        parts = parse_json(read_part(path, limit=_LARGEST))
    except DocumentError as error:
        raise VerificationError(f"{path}: damaged ({error}); {_AGAIN}") from error
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
        raise VerificationError(f"{path}: damaged; {_AGAIN}")
    return parts


def _finished(folder: Path, plan: ConversionPlan) -> Manifest | None:
    """A set with all of its files is complete; else what lacks is made again."""
    if not (folder / MANIFEST_NAME).is_file():
        return None
    manifest = open_shards(folder).manifest
    sizes = {folder / shard.name: shard.bytes for shard in manifest.shards}
    for path in sizes:
        if path.is_symlink():
            raise UsageError(f"{path}: is a link; put the file itself there, or give --overwrite")
    lost = [path for path, size in sizes.items() if not _is_whole(path, size)]
    lost += [path for name in _WRITTEN_LAST if not (path := folder / name).is_file()]
    if not lost:
        (folder / JOURNAL_NAME).unlink(missing_ok=True)  # a run was killed in its last moment
        return manifest
    what = f"missing or cut files ({len(lost)}, first {lost[0].name}) are made again"
    note(f"{folder}: {what}")
    write_journal(folder, _journal_of(folder, manifest, plan))
    (folder / MANIFEST_NAME).unlink()
    return None


def _is_whole(path: Path, size: int) -> bool:
    """Whether a file of this size is there."""
    return path.is_file() and path.stat().st_size == size


def _journal_of(folder: Path, manifest: Manifest, plan: ConversionPlan) -> list[JournalEntry]:
    """A finished set as the journal that led to it, less shards of which it is not known."""
    try:
        reasons = dict(read_rejects(folder))
    except VerificationError:
        reasons = {}  # as if it were lost
    shards = {shard.name: shard for shard in manifest.shards}
    journal = []
    for name, records in plan.named_shards.items():
        paths = [record.path for record in records]
        found = [(path, reasons.get(cell(path))) for path in paths]
        rejects = tuple((path, why) for path, why in found if why is not None)
        shard = shards.get(name) or ShardEntry(name=name, samples=0, bytes=0, sha256="")
        if shard.samples + len(rejects) == len(paths):
            journal.append(JournalEntry(shard, rejects))
    return journal


def _unfinished(folder: Path, plan: ConversionPlan) -> list[JournalEntry]:
    """Whole lines of the journal; one that a crash cut off, or that is none of it, ends it."""
    path = folder / PLAN_NAME
    if not path.is_file():
        text = json.dumps(dict(plan.parts), indent=1, ensure_ascii=False) + "\n"
        write_whole(path, text.encode())
    entries: dict[str, JournalEntry] = {}
    journal, planned = folder / JOURNAL_NAME, plan.named_shards
    data = read_part(journal, limit=_LARGEST) if os.path.lexists(journal) else b""
    for line in data.splitlines(keepends=True):
        entry = _entry(line) if line.endswith(b"\n") else None
        if entry is None or entry.shard.name in entries or entry.shard.name not in planned:
            break
        shard, rejects = entry
        if shard.samples + len(rejects) != len(planned[shard.name]):
            break
        entries[shard.name] = entry
    return [*entries.values()]


def _entry(line: bytes) -> JournalEntry | None:
    """What a line of the journal says; None = it is none."""
    try:
        *values, rejects = parse_json(line)
        shard = ShardEntry(**dict(zip(ShardEntry.model_fields, values, strict=True)))
        return JournalEntry(shard, tuple((f"{path}", f"{why}") for path, why in rejects))
    except (ValueError, TypeError):
        return None
