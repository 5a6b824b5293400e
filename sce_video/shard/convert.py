"""Carry out a plan: many workers decode, one writer assembles in plan order.

The output is a function of the plan and the files: not of the number of workers, of timing, or of
how often the conversion was interrupted. Finished shards are noted in a journal, so that a rerun
goes on behind them.
"""

from __future__ import annotations

import csv
import errno
import io
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from sce_video.errors import SceVideoError
from sce_video.shard.encode import SLOWER
from sce_video.shard.format import (
    CLASSES_NAME,
    INDEX_NAME,
    MANIFEST_NAME,
    REJECTS_NAME,
    Manifest,
    ShardEntry,
    index_table,
    sha256_file,
    split_counts,
    write_atomic,
    write_index_table,
)
from sce_video.shard.output import Journal, Output
from sce_video.shard.plan import Item, Plan
from sce_video.shard.pool import Pool
from sce_video.shard.sources import Record
from sce_video.shard.spool import spooled
from sce_video.shard.worker import Accepted, FileJob, Refused, process_file, refused_by_kernel
from sce_video.shard.writer import PARTIAL, TarWriter, index_row, read_rows, sample_json

WALL_LIMIT = 3_600.0
"""Seconds without an answer after which a worker counts as hanging; the CPU limit is far below."""
MAX_REJECTS = 0.05
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota of the disk is used up",
    errno.EFBIG: "no file may be as large as a shard (file system, or ulimit -f)",
}
_Pool = Pool[FileJob, Accepted | Refused]


@dataclass(frozen=True)
class Progress:
    """Where a conversion stands, for display."""

    samples: int
    rejected: int
    shards: int
    writing: str = ""
    """File that is being written; none while the shards of an earlier run are checked."""


@dataclass
class _Tally:
    """What the finished part of the plan holds."""

    entries: list[ShardEntry] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)
    rejects: list[tuple[str, str]] = field(default_factory=list)
    samples: int = 0

    def add(self, shard: Journal, table: pa.Table) -> None:
        if (entry := shard.entry()) is not None:
            self.entries.append(entry)
        self.samples += shard.samples
        self.tables.append(table)
        self.rejects += shard.rejects


def convert(
    plan: Plan,
    folder: Path,
    *,
    workers: int,
    max_rejects: float = MAX_REJECTS,
    overwrite: bool = False,
    wall_limit: float | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stopping: Callable[[], bool] = lambda: False,
    pool_type: type[_Pool] = Pool,
) -> tuple[Manifest, bool]:
    """Write the shard set of ``plan`` into ``folder``.

    Args:
        plan: what to write.
        folder: made if absent; an unfinished conversion of the same plan in it is continued.
        workers: decoding processes.
        max_rejects: largest fraction of the planned samples that may be unreadable.
        overwrite: delete the shard set that is there first.
        wall_limit: seconds without an answer after which a worker counts as hanging; None = by
            what it has to do.
        on_progress: called before each shard and after each sample.
        stopping: asked before each shard; True ends the conversion there.
        pool_type: what runs the workers.

    Returns:
        The manifest, and whether anything had to be done.

    Raises:
        UsageError: the folder holds something else, or a shard set of another plan.
        SceVideoError: too many rejects, a file that breaks the decoder, or the disk is full.
        KeyboardInterrupt: it was to stop.
    """
    try:
        with Output(folder, plan, overwrite=overwrite) as output:
            if output.manifest is not None:
                return output.manifest, False
            tally = _Tally()
            budget = max_rejects * plan.samples
            usual = WALL_LIMIT * (1 if plan.settings.encoding is None else SLOWER)
            pool = _pool(pool_type, workers, wall_limit or usual)
            # Closed, so that no worker outlives an error on this side.
            with closing(_shards(plan, output, pool, on_progress, stopping)) as shards:
                for shard, table in shards:
                    tally.add(shard, table)
                    if len(tally.rejects) > budget:
                        _fail_on_rejects(plan, folder, tally, max_rejects)
            on_progress(Progress(tally.samples, len(tally.rejects), len(plan.shards), INDEX_NAME))
            return _finish(plan, output, tally), True
    except OSError as error:
        if (what := _FULL.get(error.errno or 0)) is not None:
            what += "; finished shards are kept, make room and run again"
            raise SceVideoError(f"{folder}: {what}") from error
        raise SceVideoError(f"{error.filename or folder}: {error.strerror}") from error


def _pool(pool_type: type[_Pool], workers: int, wall_limit: float) -> _Pool:
    return pool_type(
        process_file,
        workers=workers,
        wall_limit=wall_limit,
        name=lambda job: job.name or str(job.source),
        on_death=refused_by_kernel,
    )


def _shards(
    plan: Plan,
    output: Output,
    pool: _Pool,
    on_progress: Callable[[Progress], None],
    stopping: Callable[[], bool],
) -> Generator[tuple[Journal, pa.Table], None, None]:
    """Yield each shard's journal entry and index rows, in plan order."""
    seen = Progress(0, 0, 0)
    kept: dict[str, tuple[Journal, pa.Table]] = {}
    for journal in output.journal:
        if (table := _reopen(plan, output.folder, journal)) is not None:
            kept[journal.name], seen = (journal, table), _advance(seen, journal)
            on_progress(seen)
    output.keep([journal for journal, _ in kept.values()])
    names = [plan.shard_name(number) for number in range(len(plan.shards))]
    jobs = [
        _job(plan, item.record)
        for name, shard in zip(names, plan.shards, strict=True)
        for item in shard
        if name not in kept
    ]
    with pool, closing(spooled(pool.map, jobs, output.folder)) as answers:
        for number, name in enumerate(names):
            if name in kept:
                yield kept.pop(name)
                continue
            if stopping():
                raise KeyboardInterrupt
            journal, table = _write_shard(plan, number, output.folder, answers, seen, on_progress)
            output.note(journal)
            seen = _advance(seen, journal)
            yield journal, table


def _job(plan: Plan, record: Record) -> FileJob:
    name = "" if record.offset is None else f"{record.source}: {record.path}"
    settings = plan.settings
    return FileJob(
        record.source,
        record.size,
        plan.media,
        settings.limits,
        record.offset,
        name,
        settings.encoding,
    )


def _advance(seen: Progress, shard: Journal) -> Progress:
    return Progress(
        seen.samples + shard.samples, seen.rejected + len(shard.rejects), seen.shards + 1
    )


def _write_shard(
    plan: Plan,
    number: int,
    folder: Path,
    answers: Iterator[Accepted | Refused],
    seen: Progress,
    on_progress: Callable[[Progress], None],
) -> tuple[Journal, pa.Table]:
    """Write one shard from the next answers, in plan order."""
    name = plan.shard_name(number)
    rows: list[dict[str, Any]] = []
    rejects: list[tuple[str, str]] = []
    size, sha256 = 0, ""
    on_progress(replace(seen, writing=name))
    with TarWriter(folder / name) as tar:
        for item in plan.shards[number]:
            answer = next(answers)
            if isinstance(answer, Refused):
                rejects.append((item.record.path, answer.reason))
            else:
                rows.append(_add_sample(tar, plan, name, item, answer))
            done = (seen.samples + len(rows), seen.rejected + len(rejects))
            on_progress(Progress(*done, seen.shards, name))
        if rows:
            size, sha256 = tar.commit()
    journal = Journal(name, len(rows), size, sha256, tuple(rejects))
    return journal, index_table(rows, plan.columns)


def _add_sample(
    tar: TarWriter, plan: Plan, shard: str, item: Item, answer: Accepted
) -> dict[str, Any]:
    """Append one sample; returns its index row."""
    info = sample_json(plan, item, answer)
    contents = {answer.probe.ext: answer.data, "json": info, "idx": answer.idx}
    members = {ext: tar.add(f"{item.key}.{ext}", data) for ext, data in contents.items() if data}
    return index_row(shard, item.key, json.loads(info), members, plan.columns)


def _reopen(plan: Plan, folder: Path, journal: Journal) -> pa.Table | None:
    """Index rows of a shard that an earlier run finished; None = it is not as noted."""
    if not journal.samples:
        return index_table([], plan.columns)
    path = folder / journal.name
    if not path.is_file() or sha256_file(path) != journal.sha256:
        return None
    return index_table(read_rows(path, plan.columns), plan.columns)


def _fail_on_rejects(plan: Plan, folder: Path, tally: _Tally, max_rejects: float) -> None:
    _write_rejects(folder, tally.rejects)
    reasons = Counter(reason for _, reason in tally.rejects).most_common(3)
    raise SceVideoError(
        f"{len(tally.rejects)} unreadable files are more than {max_rejects:.1%} of {plan.samples} "
        f"({', '.join(f'{count} {reason}' for reason, count in reasons)}); "
        f"see {folder / REJECTS_NAME}, then repair them or raise --max-rejects"
    )


def _write_rejects(folder: Path, rejects: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "reason"))
    table.writerows(sorted(rejects))
    write_atomic(folder / REJECTS_NAME, text.getvalue().encode())


def _finish(plan: Plan, output: Output, tally: _Tally) -> Manifest:
    """Write everything but the tars; the manifest last."""
    if not tally.samples:
        raise SceVideoError(f"{output.folder}: not one readable sample; nothing to write")
    rejects = sorted([*tally.rejects, *plan.rejects])
    table = pa.concat_tables(tally.tables).combine_chunks()
    index = output.folder / INDEX_NAME
    partial = index.with_name(INDEX_NAME + PARTIAL)
    write_index_table(partial, table)
    output.publish(partial, index)
    _write_rejects(output.folder, rejects)
    classes = "".join(f"{name}\n" for name in plan.classes)
    write_atomic(output.folder / CLASSES_NAME, classes.encode())
    manifest = Manifest(
        dataset=plan.settings.dataset,
        plan_digest=plan.digest,
        encode=plan.settings.encode,
        classes=plan.classes,
        splits={column: split_counts(table, column) for column in plan.columns},
        samples=tally.samples,
        rejected=dict(sorted(Counter(reason for _, reason in rejects).items())),
        index_sha256=sha256_file(index),
        shards=tuple(tally.entries),
    )
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    write_atomic(output.folder / MANIFEST_NAME, text.encode())
    output.close_journal()
    return manifest
