"""Carry out a plan: many workers decode, one writer assembles in plan order.

The output is a function of the plan and the files: not of the number of workers, of timing, or of
how often the conversion was interrupted. Finished shards are noted in a journal, so that a rerun
goes on behind them.
"""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sce_video.errors import SceVideoError, VerificationError, first_line
from sce_video.files import FULL, sha256_file
from sce_video.lock import Lock
from sce_video.shard.output import JournalEntry, end_journal, output_folder, write_journal
from sce_video.shard.plan import ConversionPlan
from sce_video.shard.pool import Pool
from sce_video.shard.sources import Record
from sce_video.shard.spool import spooled
from sce_video.shard.worker import Accepted, FileJob, Refused, process_file, refused_by_kernel
from sce_video.shard.writer import TarWriter
from sce_video.shardset.checks import row_problem
from sce_video.shardset.index import INDEX_NAME, IndexRow, index_table, write_table
from sce_video.shardset.manifest import (
    REJECTS_NAME,
    Manifest,
    ShardEntry,
    count_rejects,
    write_manifest,
    write_rejects,
)
from sce_video.shardset.rows import index_row, noted_facts, read_rows
from sce_video.shardset.splits import split_counts
from sce_video.video.encode import SLOWER

WALL_LIMIT = 3_600.0
"""Seconds without an answer after which a worker counts as hanging; the CPU limit is far below."""
MAX_REJECTS = 0.05
_Pool = Pool[FileJob, Accepted | Refused]


@dataclass(frozen=True)
class ConversionState:
    """Where a conversion stands, for display."""

    samples: int
    rejected: int
    shards: int
    writing: str = ""
    """File that is being written; none while the shards of an earlier run are checked."""


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
    conversion: _Conversion | None = None
    try:
        with output_folder(folder, plan, overwrite=overwrite) as (found, lock):
            if isinstance(found, Manifest):
                return found, False
            pool = pool_type(
                process_file,
                workers=workers,
                wall_limit=WALL_LIMIT * (1 if plan.settings.encoding is None else SLOWER),
                on_death=refused_by_kernel,
            )
            conversion = _Conversion(plan, folder, lock, on_progress)
            conversion.reopen(found)
            rejects = conversion.write_shards(pool, max_rejects, stopping)
            return conversion.finish(rejects), True
    except OSError as error:
        where = os.fsdecode(error.filename or folder)
        if (what := FULL.get(error.errno or 0)) is None:
            raise SceVideoError(f"{where}: {error.strerror or first_line(error)}") from error
        kept = f"{conversion.kept:,} finished shards are kept, " if conversion else ""
        cure = "allow more" if error.errno == errno.EFBIG else "make room"
        raise SceVideoError(f"{where}: {what}; {kept}{cure} and run again") from error


class _Conversion:
    """One conversion under way: its finished shards, and where it stands."""

    def __init__(
        self,
        plan: ConversionPlan,
        folder: Path,
        lock: Lock,
        on_progress: Callable[[ConversionState], None],
    ) -> None:
        self._plan, self._folder, self._lock, self._on_progress = plan, folder, lock, on_progress
        self._made: dict[str, tuple[JournalEntry, pa.Table]] = {}
        """Name of a finished shard -> the journal's entry and the index rows."""
        self._noted = Counter[str]()
        self._samples = self._rejected = 0
        self.kept = 0
        """Shards that the journal says are finished."""

    def _tell(self, writing: str, samples: int = 0, rejected: int = 0) -> None:
        """Show where it stands, with so many more samples."""
        self._samples, self._rejected = self._samples + samples, self._rejected + rejected
        state = ConversionState(self._samples, self._rejected, len(self._made), writing)
        self._on_progress(state)

    def _note(self) -> None:
        """Have the journal say which shards are finished, as long as it is ours."""
        if self._lock.lost:
            raise self._lock.lost
        write_journal(self._folder, (entry for entry, _ in self._made.values()))
        self.kept = len(self._made)

    def reopen(self, journal: Iterable[JournalEntry]) -> None:
        """Take the shards that an earlier run finished, as far as they are as it noted."""
        for entry in journal:
            shard = entry.shard
            try:
                table = self._reread(shard) if shard.samples else self._table([])
            except (OSError, VerificationError):
                continue  # lost, or another file: it is made again
            self._made[shard.name] = entry, table
            self._tell("", shard.samples, len(entry.rejects))
        self._note()

    def _reread(self, shard: ShardEntry) -> pa.Table:
        """Index rows of a finished shard; what it notes of its samples counts.

        Raises:
            OSError, VerificationError: it is not there, or not as it was noted.
        """
        path = self._folder / shard.name
        if path.stat().st_size != shard.bytes or sha256_file(path) != shard.sha256:
            raise VerificationError(f"{path}: not as it was noted")
        rows, noted = read_rows(path, self._plan.columns)
        try:
            table = self._table(rows)
        except (pa.ArrowException, ValueError, TypeError, ArithmeticError) as error:
            raise VerificationError(f"{path}: not as it was noted") from error
        self._noted += noted
        return table

    def _table(self, rows: list[IndexRow]) -> pa.Table:
        return index_table(rows, self._plan.columns)

    def write_shards(
        self, pool: _Pool, max_rejects: float, stopping: Callable[[], bool]
    ) -> list[tuple[str, str]]:
        """Write the shards that lack, in plan order; returns (path, reason) of all rejects."""
        plan, shards, made = self._plan, self._plan.named_shards, self._made
        lacking = [record for name, shard in shards.items() if name not in made for record in shard]
        jobs = [FileJob(record, plan.settings.limits, plan.settings.encoding) for record in lacking]
        rejects: list[tuple[str, str]] = []
        with pool, closing(spooled(pool.map, jobs, self._folder)) as answers:
            for name, records in shards.items():
                if name not in made:
                    if stopping():
                        raise KeyboardInterrupt
                    self._tell(name)
                    made[name] = self._write_shard(self._folder / name, records, answers)
                    self._note()
                rejects += made[name][0].rejects
                if len(rejects) > max_rejects * plan.samples:
                    self._fail_on_rejects(rejects, max_rejects)
        self._tell(INDEX_NAME)
        return rejects

    def _write_shard(
        self, path: Path, records: Iterable[Record], answers: Iterator[Accepted | Refused]
    ) -> tuple[JournalEntry, pa.Table]:
        """Write one shard from the next answers, in plan order."""
        rows: list[IndexRow] = []
        rejects: list[tuple[str, str]] = []
        size, sha256 = 0, ""
        with TarWriter(path) as tar:
            for record in records:
                answer = next(answers)
                if isinstance(answer, Refused):
                    rejects.append((record.path, answer.reason))
                    self._tell(path.name, rejected=1)
                else:
                    rows.append(self._add_sample(tar, record, answer))
                    self._tell(path.name, samples=1)
            if rows:
                size, sha256 = tar.commit()
        shard = ShardEntry(name=path.name, samples=len(rows), bytes=size, sha256=sha256)
        return JournalEntry(shard, tuple(rejects)), self._table(rows)

    def _add_sample(self, tar: TarWriter, record: Record, answer: Accepted) -> IndexRow:
        """Append one sample; returns its index row."""
        plan = self._plan
        fields = {
            **answer.fields,
            "path": record.path,
            "label": record.label,
            "class": plan.classes[record.label] if record.label >= 0 else "",
            "splits": dict(record.splits),
            "encode": plan.settings.encode,
        }
        self._noted += noted_facts(fields)
        text = json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        parts = {fields["ext"]: answer.data, "json": text.encode(), "idx": answer.idx}
        members = {ext: tar.add(f"{record.key}.{ext}", data) for ext, data in parts.items() if data}
        return index_row(tar.path.name, record.key, parts["json"], members, plan.columns)

    def _fail_on_rejects(self, rejects: list[tuple[str, str]], max_rejects: float) -> None:
        write_rejects(self._folder, rejects)
        reasons = Counter(reason for _, reason in rejects).most_common(3)
        raise SceVideoError(
            f"{len(rejects)} unreadable files are more than {max_rejects:.1%} of "
            f"{self._plan.samples} "
            f"({', '.join(f'{count} {reason}' for reason, count in reasons)}); "
            f"see {self._folder / REJECTS_NAME}, then repair them or raise --max-rejects"
        )

    def finish(self, rejects: list[tuple[str, str]]) -> Manifest:
        """Write everything but the tars; the manifest last."""
        plan, folder = self._plan, self._folder
        done = [self._made[name] for name in plan.named_shards]
        shards = tuple(entry.shard for entry, _ in done if entry.shard.samples)
        if not shards:
            raise SceVideoError(f"{folder}: not one readable sample; nothing to write")
        table = pa.concat_tables([table for _, table in done]).combine_chunks()
        rejects = [*rejects, *plan.rejects]
        write_table(folder / INDEX_NAME, table)
        write_rejects(folder, rejects)
        manifest = Manifest(
            dataset=plan.settings.dataset,
            plan_digest=plan.digest,
            encode=plan.settings.encode,
            classes=plan.classes,
            splits=split_counts(table, plan.columns),
            samples=len(table),
            rejected=count_rejects(rejects),
            noted=dict(sorted(self._noted.items())),
            index_sha256=sha256_file(folder / INDEX_NAME),
            shards=shards,
        )
        if (problem := row_problem(table, manifest)) is not None:
            raise SceVideoError(f"{folder}: {problem}; report it, and convert without that file")
        write_manifest(folder, manifest)
        end_journal(folder)
        return manifest
