"""Read all of a finished shard set and name what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sce_video.errors import EXIT_OK, EXIT_VERIFY, VerificationError
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
    read_part,
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
        what = "delete the files named above, then convert again: it makes what lacks"
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
    layered, done = shards.manifest.encode["mode"] == "layered", 0
    numbers, names = shards.shard_numbers(), sorted(e.name for e in shards.manifest.shards)
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], np.arange(1, len(names)))
    places = dict(zip(names, np.split(order, ends), strict=True))
    with pool, Progress(len(shards), "sample") as bar:
        for entry in shards.manifest.shards:
            path = shards.folder / entry.name
            rows = shards.table.take(places[entry.name]).to_pylist()
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
    for name, expected in ((CLASSES_NAME, class_list(manifest)), (REJECTS_NAME, manifest.rejected)):
        try:
            if name == CLASSES_NAME:
                found: object = read_part(folder / name, limit=len(class_list(manifest)))
            else:
                found = count_rejects(read_rejects(folder))
        except VerificationError as error:
            yield str(error)
        else:
            if found != expected:
                yield f"{folder / name}: not the {Path(name).stem} of the manifest"
    named = {entry.name for entry in manifest.shards}
    for path in sorted(folder.glob("*.tar")):
        if path.name not in named:
            yield f"{path}: not named in the manifest"


def _verify_table(shards: ShardIndex) -> Iterator[str]:
    """What the manifest and the index say together, beside what is checked as they are opened."""
    if split_counts(shards.table, shards.split_columns) != shards.manifest.splits:
        yield f"{shards.folder / MANIFEST_NAME}: its splits are not those of the index"
    tars, offsets = np.diff(shards.shard_numbers()), np.diff(shards.numbers("media_offset"))
    if ((tars < 0) | ((tars == 0) & (offsets < 0))).any():
        yield f"{shards.folder / INDEX_NAME}: rows are not in the order of the tars"
