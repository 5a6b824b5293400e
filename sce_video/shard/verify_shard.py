"""One tar against its manifest entry and its index rows: which bytes of which sample are wrong.

A sound tar is hashed once and its headers and json members are read; media are read again only to
find the place of a damage.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sce_video.files import sha256_file
from sce_video.shardset.index import IMAGE_EXTENSIONS, IndexRow
from sce_video.shardset.manifest import ShardEntry
from sce_video.shardset.rows import index_row, row_members
from sce_video.video.facts import Rejected, examine_image, examine_video
from sce_video.video.packets import IdxError, PacketIndex


def verify_shard(
    path: Path, entry: ShardEntry, rows: Sequence[IndexRow], columns: tuple[str, ...]
) -> list[str]:
    """All that is wrong with one tar.

    Args:
        path: of the tar.
        entry: what the manifest says.
        rows: what the index says.
        columns: split columns.

    Returns:
        One line a finding: ``PATH: KEY: bytes FIRST-LAST: WHAT``.
    """
    if not path.is_file():
        first = rows[0]["key"] if rows else "-"
        what = f"missing, {len(rows):,} samples from this one on"
        return [_finding(path, first, 0, entry.bytes, what)]
    try:
        whole = path.stat().st_size == entry.bytes and sha256_file(path) == entry.sha256
        with path.open("rb") as stream:
            tar = _Tar(path, stream, entry.bytes, path.stat().st_size, whole)
            _verify_layout(tar, rows)
            for row in rows:
                _verify_row(tar, row, columns)
            if not (whole or tar.findings):
                what = "another sha256 than in the manifest, but all members are as the index says"
                tar.tell("-", 0, tar.size, what)
            return tar.findings
    except OSError as error:
        return [_finding(path, "-", 0, entry.bytes, f"cannot be read: {error.strerror}")]


@dataclass(frozen=True, slots=True)
class MediaJob:
    """A media member that is to be decoded, and what the index says about it."""

    path: Path
    row: IndexRow

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.path}: {self.row['key']}"

    def finding(self, what: str) -> str:
        """A finding about it."""
        first, size = self.row["media_offset"], self.row["media_size"]
        return _finding(self.path, self.row["key"], first, first + size, what)


def verify_media(job: MediaJob) -> str:
    """Decode one media member; returns a finding, or "".

    A member that has not the bytes of the index is :func:`verify_shard`'s finding.
    """
    row = job.row
    with job.path.open("rb") as stream:
        parts = row_members(row)
        data, _, *idx = (_read(stream, part.offset_data, part.size) for part in parts)
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        return ""
    try:
        found = (examine_image if row["ext"] in IMAGE_EXTENSIONS else examine_video)(data)
    except Rejected as rejected:
        return job.finding(f"does not decode: {rejected}")
    wrong = [
        f"{name} {getattr(found, name)}, not {row[name]}"
        for name in ("ext", "frames", "width", "height")
        if getattr(found, name) != row[name]
    ]
    if idx and not _same_packets(idx[0], found.packets):
        wrong.append("other packets than its idx says")
    return job.finding(f"decodes to {', '.join(wrong)}") if wrong else ""


def _same_packets(idx: bytes, found: PacketIndex | None) -> bool:
    """Whether an ``idx`` member is that of its media; the layers are not compared."""
    try:
        noted = PacketIndex.from_bytes(idx)
    except IdxError:
        return True  # damaged: verify_shard's finding
    columns = ("offset", "size", "number")
    return found is not None and all(
        np.array_equal(getattr(found, name), getattr(noted, name)) for name in columns
    )


def _finding(path: Path, key: str, at: int, end: int, what: str) -> str:
    return f"{path}: {key}: bytes {at}-{end - 1}: {what}"


def _read(stream: BinaryIO, at: int, size: int) -> bytes:
    """``size`` bytes from ``at``; fewer where the file has fewer."""
    end = os.fstat(stream.fileno()).st_size
    if not 0 <= at < end or size <= 0:
        return b""
    stream.seek(at)
    return stream.read(min(size, end - at))


@dataclass(frozen=True)
class _Tar:
    """A tar under examination."""

    path: Path
    stream: BinaryIO
    expected: int
    """Bytes."""
    size: int
    """Bytes that are there."""
    whole: bool
    """It is what the manifest names: whatever is wrong is wrong in the index."""
    findings: list[str] = field(default_factory=list)

    def read(self, at: int, end: int) -> bytes:
        return _read(self.stream, at, end - at)

    def tell(self, key: str, at: int, end: int, what: str) -> None:
        blame = "; the tar is as its manifest says, the index is not" if self.whole else ""
        self.findings.append(_finding(self.path, key, at, end, what + blame))


def _end(part: tarfile.TarInfo) -> int:
    """Behind its padding."""
    return part.offset_data + part.size + -part.size % tarfile.BLOCKSIZE


def _verify_layout(tar: _Tar, rows: Sequence[IndexRow]) -> None:
    """The members of the index, put side by side, against the length of the tar."""
    parts = [(row["key"], part) for row in rows for part in row_members(row)]
    parts.sort(key=lambda own: own[1].offset)
    at, last = 0, "-"
    for key, part in parts:
        if _end(part) > tar.expected:
            tar.tell(key, part.offset, _end(part), f"{part.name} would lie behind the end")
            continue
        if part.offset > at:
            tar.tell(key, at, part.offset, "no row of the index names what lies here")
        elif part.offset < at:
            tar.tell(key, part.offset, _end(part), f"{part.name} overlaps what is before it")
        at, last = max(at, _end(part)), key
    end = at + 2 * tarfile.BLOCKSIZE
    end += -end % tarfile.RECORDSIZE
    if end != tar.expected:
        tar.tell(last, at, tar.expected, "no row of the index names what lies here")
    elif tar.read(at, end).strip(b"\0"):
        tar.tell(last, at, end, "the end of the archive is damaged")
    if tar.size > tar.expected:
        tar.tell(last, tar.expected, tar.size, "bytes behind the end of the archive")
    elif tar.size < tar.expected:
        lost = list(dict.fromkeys(key for key, part in parts if _end(part) > tar.size))
        what = f"cut off, {len(lost):,} samples are not whole from this one on"
        tar.tell((lost or [last])[0], tar.size, tar.expected, what)


def _verify_row(tar: _Tar, row: IndexRow, columns: tuple[str, ...]) -> None:
    """Headers, padding and contents of one sample."""
    media, info, *packets = row_members(row)
    parts, key = (media, info, *packets), row["key"]
    if any(tar.size < _end(part) <= tar.expected for part in parts):
        return  # cut off, and told
    for part in parts:
        after = part.offset_data + part.size
        try:
            header = part.tobuf(tarfile.USTAR_FORMAT)
        except ValueError:
            header = b"none"
        if tar.read(part.offset, part.offset_data) != header:
            what = f"not the header of {part.name}, {part.size:,} bytes"
            tar.tell(key, part.offset, part.offset_data, what)
        if tar.read(after, _end(part)).strip(b"\0"):
            tar.tell(key, after, _end(part), f"the padding of {part.name} is damaged")
    # The json of a tar that the manifest's sha256 vouches for has the sha256 of the media.
    for part in (info,) if tar.whole else (info, media, *packets):
        after = part.offset_data + part.size
        if what := _problem(tar, part, tar.read(part.offset_data, after), row, columns):
            tar.tell(key, part.offset_data, after, part.name + what)


def _problem(
    tar: _Tar, part: tarfile.TarInfo, data: bytes, row: IndexRow, columns: tuple[str, ...]
) -> str:
    """What is wrong with the content of a member; "" = nothing."""
    if part.name.endswith(".idx"):
        try:
            PacketIndex.from_bytes(data)
        except IdxError as error:
            return f": {error}"
        return ""
    if not part.name.endswith(".json"):
        return "" if hashlib.sha256(data).hexdigest() == row["sha256"] else " has another sha256"
    if zlib.crc32(data) != row["json_crc32"]:
        return " has another crc32"
    members = {member.name.rpartition(".")[2]: member for member in row_members(row)}
    try:
        found = index_row(tar.path.name, row["key"], data, members, columns)
    except (ValueError, KeyError, TypeError, AttributeError):
        return " is not the json of this sample"
    wrong = [name for name, value in found.items() if value != row[name]]
    return f" and index differ in {', '.join(wrong)}" if wrong else ""
