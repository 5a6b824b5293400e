"""The manifest of a shard set, and what was left out of it. Written down in ``shards/README.md``.

A shard set is one folder: ``NAME-000000.tar ...``, ``index.parquet``, ``manifest.json``,
``rejects.csv`` and ``classes.txt``. The manifest is written last: a shard exists only when it is
named there.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sce_video.documents import DocumentError, parse_json
from sce_video.errors import UsageError, VerificationError, first_line
from sce_video.files import is_plain_name, read_plain, write_whole
from sce_video.shardset.reasons import ASIDE
from sce_video.text import cell, one_line
from sce_video.video.facts import NOTED

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
REJECTS_NAME = "rejects.csv"
CLASSES_NAME = "classes.txt"
PLAN_NAME = ".plan.json"
"""The parts of the plan's digest: kept, so that a rerun can say what changed."""
JOURNAL_NAME = ".journal.jsonl"
"""One line a finished shard; gone when the manifest is there."""
LONGEST_NAME = 1_000
"""Characters of a class, a split and whatever else of a set has a name."""
LARGEST_INDEX = 1 << 32
"""Bytes of an index, whatever the manifest counts: that of 40 million samples."""
_MOST = 1 << 25  # bytes of a manifest: 200,000 shards, a million classes
_MOST_REJECTS = 1 << 30  # bytes of their list
_HEAD = ("path", "reason")
_SHA256 = re.compile("[0-9a-f]{64}")


class ShardEntry(BaseModel):
    """One tar of a set, as the manifest names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    samples: int
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What a shard set holds. ``splits`` maps a split column to its counts by value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT_VERSION
    dataset: str
    plan_digest: str
    encode: dict[str, str | int | float | bool]
    classes: tuple[str, ...]
    splits: dict[str, dict[str, int]]
    samples: int
    rejected: dict[str, int]
    noted: dict[str, int] = {}
    """Samples by what is said of them and not acted upon: ``pixel_aspect`` and so on."""
    index_sha256: str
    shards: tuple[ShardEntry, ...]


def class_list(manifest: Manifest) -> bytes:
    """What ``classes.txt`` holds: the names in the order of their labels."""
    return "".join(f"{name}\n" for name in manifest.classes).encode()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``classes.txt`` and, with all else there, ``manifest.json``."""
    write_whole(folder / CLASSES_NAME, class_list(manifest))
    fields = manifest.model_dump(mode="json", exclude=set() if manifest.noted else {"noted"})
    text = json.dumps(fields, indent=1, ensure_ascii=False) + "\n"
    write_whole(folder / MANIFEST_NAME, text.encode())


def listed(rejected: Mapping[str, int]) -> dict[str, int]:
    """Of :attr:`Manifest.rejected` the reasons that take samples from the data set's lists."""
    return {why: n for why, n in rejected.items() if why not in ASIDE}


def read_part(path: Path, *, limit: int) -> bytes:
    """All bytes of a file of a set, which is no link, pipe or the like, and in bounds.

    Raises:
        VerificationError: it is not so.
    """
    try:
        return read_plain(path, limit=limit)
    except OSError as error:
        lost = error.errno in (errno.ENOENT, errno.EFBIG, errno.EINVAL)
        raise VerificationError(f"{path}: {error.strerror}{'; shard again' * lost}") from error


def read_manifest_file(path: Path) -> tuple[Manifest, bytes]:
    """A manifest here, and its bytes; see :func:`read_manifest`."""
    data = read_part(path, limit=_MOST)
    return read_manifest(data, path), data


def read_manifest(data: bytes, name: str | Path) -> Manifest:
    """Parse a manifest; ``name`` is what messages call it.

    What it gives holds for every reader: shards have plain names, each once, and counts that add
    up; names are single lines.

    Raises:
        UsageError: another format version.
        VerificationError: damaged, or not as it should be.
    """
    if len(data) > _MOST:
        raise VerificationError(f"{name}: damaged: larger than {_MOST:,} bytes; shard again")
    try:
        manifest = Manifest.model_validate(parse_json(data))
    except DocumentError as error:
        raise VerificationError(f"{name}: damaged: {error}; shard again") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise VerificationError(f"{name}: damaged: {where}: {first['msg']}; shard again") from error
    if manifest.format != FORMAT_VERSION:
        raise UsageError(
            f"{name}: format {manifest.format}, this version reads {FORMAT_VERSION}; shard again"
        )
    if (problem := next(_problems(manifest), None)) is not None:
        raise VerificationError(f"{name}: damaged: {problem}; shard again")
    return manifest


def is_name(text: str) -> bool:
    """Whether ``text`` may name a class, a split and so on: a line, and not too long a one."""
    return 0 < len(text) <= LONGEST_NAME and one_line(text) == text


def _problems(manifest: Manifest) -> Iterator[str]:
    """What a manifest of the right form must not say."""
    shards = [shard.name for shard in manifest.shards]
    for name in shards:
        if not is_plain_name(name, ".tar"):
            yield f"{name!r} is no name of a shard"
    for what, names in (("shard", shards), ("class", manifest.classes)):
        if len(set(names)) < len(names):
            yield f"it names {what} {Counter(names).most_common(1)[0][0]!r} twice"
    texts = [manifest.dataset, *manifest.classes, *manifest.encode, *manifest.splits]
    texts += [*manifest.rejected, *chain.from_iterable(manifest.splits.values())]
    texts += [value for value in manifest.encode.values() if isinstance(value, str)]
    for text in texts:
        if not is_name(text):
            yield f"{text[:LONGEST_NAME]!r} is no name"
    for sha256 in (manifest.index_sha256, *(shard.sha256 for shard in manifest.shards)):
        if not _SHA256.fullmatch(sha256):
            yield f"{sha256[:100]!r} is no sha256"
    if not is_name(manifest.plan_digest):
        yield f"{manifest.plan_digest[:100]!r} is no digest"
    if manifest.encode.get("mode") not in ("copy", "layered"):
        yield "encode has no mode"
    if not manifest.noted.keys() <= {*NOTED}:
        yield "it notes something unknown"
    counts = [number for shard in manifest.shards for number in (shard.samples, shard.bytes)]
    counts += [*manifest.rejected.values(), *manifest.noted.values()]
    counts += [number for values in manifest.splits.values() for number in values.values()]
    if not manifest.samples:
        yield "it has no sample"
    if min(counts, default=0) < 0 or sum(s.samples for s in manifest.shards) != manifest.samples:
        yield f"its counts do not add up to {manifest.samples:,} samples"


def read_rejects(folder: Path) -> list[tuple[str, str]]:
    """(path, reason) of each line of ``rejects.csv``, as :func:`cell` wrote them.

    Nothing where it is not there.

    Raises:
        VerificationError: it is no such file.
    """
    path = folder / REJECTS_NAME
    if not path.exists() and not path.is_symlink():
        return []
    text = read_part(path, limit=_MOST_REJECTS).decode(errors="replace")
    try:
        head, *rows = csv.reader(io.StringIO(text, newline="")) if text else [_HEAD]
    except csv.Error as error:
        raise VerificationError(f"{path}: no csv: {first_line(error)}") from error
    if tuple(head) != _HEAD or any(len(row) != len(_HEAD) for row in rows):
        raise VerificationError(f"{path}: not lines of {','.join(_HEAD)}")
    return [(where, why) for where, why in rows]


def count_rejects(rejects: Iterable[tuple[str, str]]) -> dict[str, int]:
    """:attr:`Manifest.rejected` of what :func:`read_rejects` gives."""
    return dict(sorted(Counter(cell(reason) for _, reason in rejects).items()))


def write_rejects(folder: Path, rejects: Iterable[tuple[str, str]]) -> None:
    """Write ``rejects.csv`` from (path, reason), in any order; each is a line without formulas."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_HEAD)
    table.writerows(sorted((cell(where), cell(why)) for where, why in rejects))
    write_whole(folder / REJECTS_NAME, text.getvalue().encode())
