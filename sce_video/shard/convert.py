"""Carry out a plan: many workers decode, one writer assembles in plan order.

The output is a function of the plan and the files: not of the number of workers, of timing, or of
how often the conversion was interrupted. Finished shards are noted in a journal, so that a rerun
goes on behind them.
"""

from __future__ import annotations

import errno
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from sce_video.errors import SceVideoError
from sce_video.files import sha256_file, write_whole
from sce_video.shard.output import Journal, close_journal, keep, note, opened
from sce_video.shard.plan import ConversionPlan
from sce_video.shard.pool import Pool
from sce_video.shard.sources import Record
from sce_video.shard.spool import spooled
from sce_video.shard.worker import Accepted, FileJob, Refused, process_file, refused_by_kernel
from sce_video.shard.writer import TarWriter, index_row, read_rows
from sce_video.shardset.index import INDEX_NAME, index_table, write_index_table
from sce_video.shardset.manifest import (
    CLASSES_NAME,
    MANIFEST_NAME,
    REJECTS_NAME,
    Manifest,
    ShardEntry,
    write_rejects,
)
from sce_video.shardset.splits import split_counts
from sce_video.video.encode import SLOWER

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
class ConversionState:
    """Where a conversion stands, for display."""

    samples: int
    rejected: int
    shards: int
    writing: str = ""
    """File that is being written; none while the shards of an earlier run are checked."""


_Made = dict[str, tuple[Journal, pa.Table]]
"""Finished shards by name: the journal's entry and the index rows."""


def convert(
    plan: ConversionPlan,
    folder: Path,
    *,
    workers: int,
    max_rejects: float = MAX_REJECTS,
    overwrite: bool = False,
    on_progress: Callable[[ConversionState], None] = lambda progress: None,
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
        with opened(folder, plan, overwrite=overwrite) as state:
            if isinstance(state, Manifest):
                return state, False
            made = _reopen(plan, folder, state, on_progress)
            pool = pool_type(
                process_file,
                workers=workers,
                wall_limit=WALL_LIMIT * (1 if plan.settings.encoding is None else SLOWER),
                name=lambda job: job.name,
                on_death=refused_by_kernel,
            )
            rejects: list[tuple[str, str]] = []
            # Closed, so that no worker outlives an error on this side.
            with closing(_shards(plan, folder, made, pool, on_progress, stopping)) as shards:
                for shard in shards:
                    rejects += shard.rejects
                    if len(rejects) > max_rejects * plan.samples:
                        _fail_on_rejects(plan, folder, rejects, max_rejects)
            on_progress(_state(made, INDEX_NAME))
            return _finish(plan, folder, made, rejects), True
    except OSError as error:
        if (what := _FULL.get(error.errno or 0)) is not None:
            what += "; finished shards are kept, make room and run again"
            raise SceVideoError(f"{folder}: {what}") from error
        raise SceVideoError(f"{error.filename or folder}: {error.strerror}") from error


def _reopen(
    plan: ConversionPlan,
    folder: Path,
    journal: Iterable[Journal],
    on_progress: Callable[[ConversionState], None],
) -> _Made:
    """The shards that an earlier run finished, as far as they are as it noted."""
    made: _Made = {}
    for shard in journal:
        path = folder / shard.name
        if not shard.samples:
            rows = []
        elif path.is_file() and sha256_file(path) == shard.sha256:
            rows = read_rows(path, plan.columns)
        else:
            continue
        made[shard.name] = shard, index_table(rows, plan.columns)
        on_progress(_state(made))
    keep(folder, [shard for shard, _ in made.values()])
    return made


def _shards(
    plan: ConversionPlan,
    folder: Path,
    made: _Made,
    pool: _Pool,
    on_progress: Callable[[ConversionState], None],
    stopping: Callable[[], bool],
) -> Generator[Journal, None, None]:
    """Yield each shard in plan order, after what ``made`` lacked was added to it."""
    shards = plan.named_shards
    lacking = [record for name, shard in shards.items() if name not in made for record in shard]
    settings = plan.settings
    jobs = [FileJob(record, settings.limits, settings.encoding) for record in lacking]
    with pool, closing(spooled(pool.map, jobs, folder)) as answers:
        for name, records in shards.items():
            if name not in made:
                if stopping():
                    raise KeyboardInterrupt
                before = _state(made, name)
                made[name] = _write_shard(
                    plan, folder / name, records, answers, before, on_progress
                )
                note(folder, made[name][0])
            yield made[name][0]


def _state(made: _Made, writing: str = "") -> ConversionState:
    shards = [shard for shard, _ in made.values()]
    rejected = sum(len(shard.rejects) for shard in shards)
    return ConversionState(sum(shard.samples for shard in shards), rejected, len(shards), writing)


def _write_shard(
    plan: ConversionPlan,
    path: Path,
    records: Iterable[Record],
    answers: Iterator[Accepted | Refused],
    before: ConversionState,
    on_progress: Callable[[ConversionState], None],
) -> tuple[Journal, pa.Table]:
    """Write one shard from the next answers, in plan order."""
    rows: list[dict[str, Any]] = []
    rejects: list[tuple[str, str]] = []
    size, sha256 = 0, ""
    on_progress(before)
    with TarWriter(path) as tar:
        for record in records:
            answer = next(answers)
            if isinstance(answer, Refused):
                rejects.append((record.path, answer.reason))
            else:
                rows.append(_add_sample(tar, plan, record, answer))
            samples, rejected = before.samples + len(rows), before.rejected + len(rejects)
            on_progress(replace(before, samples=samples, rejected=rejected))
        if rows:
            size, sha256 = tar.commit()
    journal = Journal(path.name, len(rows), size, sha256, tuple(rejects))
    return journal, index_table(rows, plan.columns)


def _add_sample(
    tar: TarWriter, plan: ConversionPlan, record: Record, answer: Accepted
) -> dict[str, Any]:
    """Append one sample; returns its index row."""
    fields = {
        **answer.fields,
        "path": record.path,
        "label": record.label,
        "class": plan.classes[record.label] if record.label >= 0 else "",
        "splits": dict(record.splits),
        "encode": plan.settings.encode,
    }
    text = json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    contents = {fields["ext"]: answer.data, "json": text, "idx": answer.idx}
    members = {ext: tar.add(f"{record.key}.{ext}", data) for ext, data in contents.items() if data}
    return index_row(tar.path.name, record.key, text, members, plan.columns)


def _fail_on_rejects(
    plan: ConversionPlan, folder: Path, rejects: list[tuple[str, str]], max_rejects: float
) -> None:
    write_rejects(folder, rejects)
    reasons = Counter(reason for _, reason in rejects).most_common(3)
    raise SceVideoError(
        f"{len(rejects)} unreadable files are more than {max_rejects:.1%} of {plan.samples} "
        f"({', '.join(f'{count} {reason}' for reason, count in reasons)}); "
        f"see {folder / REJECTS_NAME}, then repair them or raise --max-rejects"
    )


def _finish(
    plan: ConversionPlan, folder: Path, made: _Made, rejects: list[tuple[str, str]]
) -> Manifest:
    """Write everything but the tars; the manifest last."""
    done = [made[name] for name in plan.named_shards]
    entries = tuple(
        ShardEntry(name=shard.name, samples=shard.samples, bytes=shard.bytes, sha256=shard.sha256)
        for shard, _ in done
        if shard.samples
    )
    if not entries:
        raise SceVideoError(f"{folder}: not one readable sample; nothing to write")
    table = pa.concat_tables([table for _, table in done]).combine_chunks()
    rejects = [*rejects, *plan.rejects]
    write_index_table(folder / INDEX_NAME, table)
    write_rejects(folder, rejects)
    classes = "".join(f"{name}\n" for name in plan.classes)
    write_whole(folder / CLASSES_NAME, classes.encode())
    manifest = Manifest(
        dataset=plan.settings.dataset,
        plan_digest=plan.digest,
        encode=plan.settings.encode,
        classes=plan.classes,
        splits={column: split_counts(table, column) for column in plan.columns},
        samples=len(table),
        rejected=dict(sorted(Counter(reason for _, reason in rejects).items())),
        index_sha256=sha256_file(folder / INDEX_NAME),
        shards=entries,
    )
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    write_whole(folder / MANIFEST_NAME, text.encode())
    close_journal(folder)
    return manifest
