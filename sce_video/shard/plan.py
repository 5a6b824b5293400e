"""From a scan to a plan: which sample goes where under which key. Pure: nothing is read.

The order is a fixed pseudo-random permutation: samples are sorted by a hash of their path. Data
sets list their files by class, and a training run shuffles within windows of a few shards, so a
sorted shard set would give batches of few classes. A shard closes at a planned number of samples;
a sample that turns out to be unreadable leaves its shard one shorter and moves no other sample.
Zipped archives cannot be read at random: they come one after the other, in the same kind of order,
and the permutation is that of the samples in each.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Record, Scan, file_stem
from sce_video.shardset.manifest import FORMAT_VERSION, LONGEST_NAME, is_name
from sce_video.shardset.reasons import OF_LISTS
from sce_video.video.encode import Encoding
from sce_video.video.kinds import Media
from sce_video.video.limits import Limits

SAMPLES_PER_SHARD: Mapping[Media, int] = {"video": 1_000, "image": 10_000}
MAX_KEY = 90
"""Characters; a plain tar holds names of 100 bytes, extension included."""
_NOT_KEY = re.compile(r"[^A-Za-z0-9_-]")
_DIGESTS = re.compile(r"[0-9a-f]{64,}")


@dataclass(frozen=True)
class Settings:
    """What decides the content of a shard set besides the data."""

    dataset: str
    samples_per_shard: int | None = None  # None = ``SAMPLES_PER_SHARD``
    limit: int | None = None  # take the first samples of the plan only
    encoding: Encoding | None = None  # None = ``copy``: keep every file's bytes
    limits: Limits = field(default_factory=Limits)

    @property
    def encode(self) -> dict[str, str | int | float | bool]:
        """The encode settings as the manifest and each sample's json give them."""
        return {"mode": "copy"} if self.encoding is None else self.encoding.describe()


@dataclass(frozen=True)
class ConversionPlan:
    """Everything a conversion will do, but for what decoding finds out."""

    settings: Settings
    media: Media
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    shards: tuple[tuple[Record, ...], ...]
    rejects: tuple[tuple[str, str], ...]
    """(path, reason) known from the scan alone: missing, in no list and so on."""
    parts: Mapping[str, str]
    """Named digests (and settings in clear) that tell what changed between two plans."""

    @property
    def digest(self) -> str:
        """sha256 over :attr:`parts`, hexadecimal."""
        return _digest([json.dumps(dict(self.parts), sort_keys=True)])

    @property
    def named_shards(self) -> dict[str, tuple[Record, ...]]:
        """:attr:`shards` by file name, in their order."""
        name = self.settings.dataset
        return {f"{name}-{number:06d}.tar": shard for number, shard in enumerate(self.shards)}

    @property
    def records(self) -> Iterator[Record]:
        """All of them, in the order of the shards."""
        return chain.from_iterable(self.shards)

    @property
    def samples(self) -> int:
        """Planned samples."""
        return sum(len(shard) for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Size of all planned raw files."""
        return sum(record.size for record in self.records)


def make_plan(scan: Scan, settings: Settings) -> ConversionPlan:
    """Order the records, name them and cut them into shards.

    Raises:
        UsageError: images cannot be encoded as videos; a name is not one for a manifest.
    """
    values = {value for record in scan.records for value in record.splits.values() if value}
    for what, names in (("class", scan.classes), ("split", sorted({*scan.columns, *values}))):
        if broken := [name for name in names if not is_name(name)]:
            raise UsageError(
                f"{what} {broken[0][:LONGEST_NAME]!r}: a name must be one line of at most "
                f"{LONGEST_NAME:,} characters; rename it"
            )
    if scan.media == "image" and settings.encoding is not None:
        raise UsageError(f"{settings.dataset} holds images; --encode layered is for videos")
    keys = make_keys([record.path for record in scan.records])
    records = [replace(record, key=key) for record, key in zip(scan.records, keys, strict=True)]
    place = _part_places(records)
    records.sort(key=lambda record: (place[record.part], _path_hash(record.path), record.path))
    records = records[: settings.limit]
    size = settings.samples_per_shard or SAMPLES_PER_SHARD[scan.media]
    return ConversionPlan(
        settings=settings,
        media=scan.media,
        classes=scan.classes,
        columns=scan.columns,
        shards=tuple(tuple(records[at : at + size]) for at in range(0, len(records), size)),
        rejects=tuple(sorted(scan.rejects)),
        parts=_parts(scan, settings, records, size),
    )


def _part_places(records: Iterable[Record]) -> dict[Path | None, str]:
    """Sort key of each zipped archive, from what it holds and not from where it lies."""
    first: dict[Path | None, str] = {}
    for record in records:
        first[record.part] = min(record.path, first.get(record.part, record.path))
    return {part: "" if part is None else _path_hash(path) for part, path in first.items()}


def make_keys(paths: Sequence[str]) -> list[str]:
    """Unique WebDataset keys ``[A-Za-z0-9_-]+`` for unique ``paths``, in their order.

    A key is the file's stem with foreign characters replaced by ``_``. Where two would be equal,
    or one too long, a short hash of the path is appended, so that a key depends only on its own
    path and on whether another claims the same.
    """
    plain = [_NOT_KEY.sub("_", file_stem(path)) for path in paths]
    claims = Counter(plain)
    for digits in (8, 16, 64):
        keys = [
            key
            if claims[key] == 1 and len(key) <= MAX_KEY
            else f"{key[: MAX_KEY - 1 - digits]}-{_path_hash(path)[:digits]}"
            for key, path in zip(plain, paths, strict=True)
        ]
        if len(set(keys)) == len(keys):
            return keys
    raise AssertionError("paths are not unique")


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """What differs between two plans' :attr:`ConversionPlan.parts`, for a person."""
    shown = []
    for name in {**old, **new}:
        before, after = old.get(name, "none"), new.get(name, "none")
        if before != after:
            digests = _DIGESTS.fullmatch(before + after)
            shown.append(name if digests else f"{name} ({before} -> {after})")
    return ", ".join(shown)


def _path_hash(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()


def _parts(scan: Scan, settings: Settings, records: Sequence[Record], size: int) -> dict[str, str]:
    zipped = any(record.part for record in records)
    # Only there do files of the same names and sizes have more than one order.
    order = {"order of archives": _digest(record.path for record in records)} if zipped else {}
    return {
        "format": str(FORMAT_VERSION),
        "data set": settings.dataset,
        **{f"encode {name}": str(value) for name, value in settings.encode.items()},
        "samples per shard": str(size),
        "--limit": str(settings.limit),
        **{f"limit on {name}": str(value) for name, value in asdict(settings.limits).items()},
        "number of files": str(len(records)),
        "file names": _digest(record.path for record in records),
        "file sizes": _digest(f"{record.path}\t{record.size}" for record in records),
        "labels": _digest(f"{record.path}\t{record.label}" for record in records),
        "splits": _digest(
            f"{record.path}\t{column}\t{record.splits.get(column, '')}"
            for record in records
            for column in scan.columns
        ),
        "classes": _digest(scan.classes),
        "files left out": _digest(
            f"{reason}\t{path}" for path, reason in scan.rejects if reason in OF_LISTS
        ),
        **order,
    }


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\0")
    return digest.hexdigest()
