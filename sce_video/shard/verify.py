"""Read all of a finished shard set and name what is wrong with it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
from tqdm import tqdm

from sce_video.errors import EXIT_OK, EXIT_VERIFY
from sce_video.progress import Progress
from sce_video.shard.convert import WALL_LIMIT
from sce_video.shard.pool import Pool
from sce_video.shard.verify_shard import MediaJob, verify_media, verify_shard
from sce_video.shardset.index import INDEX_NAME, ShardIndex, open_shards
from sce_video.shardset.manifest import (
    CLASSES_NAME,
    MANIFEST_NAME,
    REJECTS_NAME,
    class_list,
    count_rejects,
    read_rejects,
)
from sce_video.shardset.splits import split_counts
from sce_video.terminal import note, say


def verify(folder: Path, *, decode: bool = False, workers: int = 1) -> int:
    """Check every byte of a shard set against its manifest and index; print what is wrong.

    Args:
        folder: of the set.
        decode: decode every media file, too.
        workers: decoding processes.

    Returns:
        0, or 3 if anything does not match.

    Raises:
        UsageError, VerificationError: as :func:`~sce_video.shardset.index.open_shards`.
    """
    shards = open_shards(folder)
    problems = 0
    for problem in _problems(shards, decode, workers):
        problems += 1
        with tqdm.external_write_mode(file=sys.stderr):  # above the bar, if there is one
            note(problem)
    if problems:
        what = "delete the tars named above, then convert again: it makes what lacks"
        note(f"{folder}: {problems:,} findings; {what}")
        return EXIT_VERIFY
    manifest = shards.manifest
    say(
        f"{folder}: {len(manifest.shards):,} shards, {manifest.samples:,} samples"
        f"{', all decoded' if decode else ''}: as the manifest says"
    )
    return EXIT_OK


def _problems(shards: ShardIndex, decode: bool, workers: int) -> Iterator[str]:
    yield from _verify_texts(shards)
    yield from _verify_table(shards)
    pool = Pool(
        verify_media,
        workers=workers,
        wall_limit=WALL_LIMIT,
        on_death=lambda job, code: job.finding(f"ends the decoder (exit code {code})"),
    )
    layered = shards.manifest.encode["mode"] == "layered"
    names, done = shards.table.column("shard"), 0
    with pool, Progress(len(shards), "sample") as bar:
        for entry in shards.manifest.shards:
            path = shards.folder / entry.name
            rows = shards.table.filter(pc.equal(names, entry.name)).to_pylist()
            yield from verify_shard(path, entry, rows, shards.split_columns)
            media = [MediaJob(path, row, layered) for row in rows if decode and path.is_file()]
            for number, finding in enumerate(pool.map(media), 1):
                bar.update(done + number)
                if finding:
                    yield finding
            done += len(rows)
            bar.update(done)


def _verify_texts(shards: ShardIndex) -> Iterator[str]:
    """classes.txt, rejects.csv and the list of tars against the manifest."""
    folder, manifest = shards.folder, shards.manifest
    classes, rejects = folder / CLASSES_NAME, folder / REJECTS_NAME
    if not classes.is_file() or classes.read_bytes() != class_list(manifest):
        yield f"{classes}: not the classes of the manifest"
    if count_rejects(read_rejects(folder)) != manifest.rejected:
        yield f"{rejects}: not the rejects that the manifest counts"
    named = {entry.name for entry in manifest.shards}
    for path in sorted(folder.glob("*.tar")):
        if path.name not in named:
            yield f"{path}: not named in the manifest"


def _verify_table(shards: ShardIndex) -> Iterator[str]:
    """The counts of the manifest against the rows of the index."""
    manifest, index = shards.manifest, shards.folder / INDEX_NAME
    counts = split_counts(shards.table, shards.split_columns)
    if counts != manifest.splits or len(shards) != manifest.samples:
        yield f"{shards.folder / MANIFEST_NAME}: its counts are not those of the index"
    rows = Counter(shards.strings("shard"))
    for entry in manifest.shards:
        if (found := rows.pop(entry.name, 0)) != entry.samples:
            yield f"{index}: {found:,} rows of {entry.name}, which has {entry.samples:,} samples"
    for name in rows:
        yield f"{index}: rows of {name}, which the manifest does not name"
    order = list(zip(shards.strings("shard"), shards.numbers("media_offset"), strict=True))
    if order != sorted(order):
        yield f"{index}: rows are not in the order of the tars"
    for key, times in Counter(shards.strings("key")).items():
        if times > 1:
            yield f"{index}: {times} rows with the key {key}"
