"""The manifest of a shard set, and what was left out of it. Written down in ``shards/README.md``.

A shard set is one folder: ``NAME-000000.tar ...``, ``index.parquet``, ``manifest.json``,
``rejects.csv`` and ``classes.txt``. The manifest is written last: a shard exists only when it is
named there.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sce_video.errors import UsageError, VerificationError
from sce_video.files import write_whole
from sce_video.shardset.reasons import ASIDE

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
REJECTS_NAME = "rejects.csv"
CLASSES_NAME = "classes.txt"
PLAN_NAME = ".plan.json"
"""The parts of the plan's digest: kept, so that a rerun can say what changed."""
JOURNAL_NAME = ".journal.jsonl"
"""One line a finished shard; gone when the manifest is there."""


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


def read_manifest(data: bytes, name: str | Path) -> Manifest:
    """Parse a manifest; ``name`` is what messages call it.

    Raises:
        UsageError: another format version.
        VerificationError: damaged.
    """
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise VerificationError(f"{name}: damaged: {error.errors()[0]['msg']}") from error
    if manifest.format != FORMAT_VERSION:
        raise UsageError(
            f"{name}: format {manifest.format}, this version reads {FORMAT_VERSION}; shard again"
        )
    return manifest


def read_rejects(folder: Path) -> list[tuple[str, str]]:
    """(path, reason) of each line of ``rejects.csv``; nothing where it is not there."""
    path = folder / REJECTS_NAME
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as stream:
        rows = csv.DictReader(stream, restval="")
        return [(row.get("path", ""), row.get("reason", "")) for row in rows]


def count_rejects(rejects: Iterable[tuple[str, str]]) -> dict[str, int]:
    """:attr:`Manifest.rejected` of what :func:`read_rejects` gives."""
    return dict(sorted(Counter(reason for _, reason in rejects).items()))


def write_rejects(folder: Path, rejects: Iterable[tuple[str, str]]) -> None:
    """Write ``rejects.csv`` from (path, reason), in any order."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "reason"))
    table.writerows(sorted(rejects))
    write_whole(folder / REJECTS_NAME, text.getvalue().encode())
