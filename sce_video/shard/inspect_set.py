"""Look at a finished shard set: ``info`` tells what it holds, ``verify`` reads all of it."""

from __future__ import annotations

import csv
import hashlib
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

from sce_video.errors import EXIT_OK, EXIT_VERIFY
from sce_video.shard.format import (
    CLASSES_NAME,
    REJECTS_NAME,
    ShardEntry,
    ShardIndex,
    index_table,
    open_shards,
    sha256_file,
)
from sce_video.shard.writer import read_rows


def info(folder: Path) -> int:
    """Print what a shard set holds.

    Raises:
        UsageError, VerificationError: as :func:`~sce_video.shard.format.open_shards`.
    """
    shards = open_shards(folder)
    manifest = shards.manifest
    sizes, hours = (
        [shard.bytes for shard in manifest.shards],
        shards.numbers("duration").sum() / 3600,
    )
    print(f"{folder}: {manifest.dataset}, format {manifest.format}, encode {manifest.encode}")
    print(f"  samples  {manifest.samples:,} in {len(sizes):,} shards, {sum(sizes):,} bytes")
    print(f"  length   {hours:.2f} h, {int(shards.numbers('frames').sum()):,} frames")
    print(f"  classes  {len(manifest.classes):,}")
    for column, counts in manifest.splits.items():
        print(f"  {column:<8} {', '.join(f'{value} {n:,}' for value, n in counts.items())}")
    for reason, count in manifest.rejected.items():
        print(f"  left out {count:,}: {reason}")
    print(f"  plan     {manifest.plan_digest}")
    return EXIT_OK


def verify(folder: Path) -> int:
    """Check every byte of a shard set against its manifest and index; print what is wrong.

    Returns:
        0, or 3 if anything does not match.

    Raises:
        UsageError, VerificationError: as :func:`~sce_video.shard.format.open_shards`.
    """
    shards = open_shards(folder)
    problems = _check_texts(shards)
    at = 0
    for entry in shards.manifest.shards:
        rows = shards.table.slice(at, entry.samples).to_pylist()
        at += entry.samples
        problems += _check_shard(shards, entry, rows)
    if at != len(shards) or at != shards.manifest.samples:
        problems.append(f"{folder}: the index has {len(shards)} samples, the shards {at}")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(
            f"{folder}: {len(problems)} problems; make the set again: --overwrite", file=sys.stderr
        )
        return EXIT_VERIFY
    print(f"{folder}: {len(shards.manifest.shards):,} shards, {at:,} samples: as the manifest says")
    return EXIT_OK


def _check_texts(shards: ShardIndex) -> list[str]:
    """classes.txt, rejects.csv and the list of tars against the manifest."""
    folder, manifest = shards.folder, shards.manifest
    problems = []
    classes, rejects = folder / CLASSES_NAME, folder / REJECTS_NAME
    expected = "".join(f"{name}\n" for name in manifest.classes).encode()
    if not classes.is_file() or classes.read_bytes() != expected:
        problems.append(f"{classes}: not the classes of the manifest")
    counts: Counter[str] = Counter()
    if rejects.is_file():
        with rejects.open(encoding="utf-8", newline="") as stream:
            counts.update(row["reason"] for row in csv.DictReader(stream))
    if dict(counts) != manifest.rejected:
        problems.append(f"{rejects}: not the rejects that the manifest counts")
    named = {entry.name for entry in manifest.shards}
    stray = sorted(path for path in folder.glob("*.tar") if path.name not in named)
    return problems + [f"{path}: not named in the manifest" for path in stray]


def _check_shard(shards: ShardIndex, entry: ShardEntry, rows: list[dict[str, Any]]) -> list[str]:
    """One tar: its bytes, and its members against the index rows."""
    path = shards.folder / entry.name
    if not path.is_file():
        return [f"{path}: missing"]
    if path.stat().st_size != entry.bytes or sha256_file(path) != entry.sha256:
        return [f"{path}: damaged (sha256 differs)"]
    try:
        found = index_table(read_rows(path, shards.split_columns), shards.split_columns)
    except (tarfile.TarError, KeyError, ValueError) as error:
        return [f"{path}: not readable as a shard: {error}"]
    if found.to_pylist() != rows:
        return [f"{path}: members and index rows differ"]
    with path.open("rb") as stream:
        for row in rows:
            stream.seek(row["media_offset"])
            if hashlib.sha256(stream.read(row["media_size"])).hexdigest() != row["sha256"]:
                return [f"{path}: {row['key']} does not match its sha256"]
    return []
