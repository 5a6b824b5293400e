"""One tar against its manifest entry and its index rows: which bytes of which sample are wrong.

A sound tar is hashed once and its headers and json members are read; media are read again only to
find the place of a damage.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sce_video.shard.format import IMAGE_EXTENSIONS, ShardEntry, sha256_file
from sce_video.shard.packets import IdxError, PacketIndex
from sce_video.shard.probe import Rejected, probe_image, probe_video
from sce_video.shard.writer import Member, index_row, member_header

Row = dict[str, Any]
"""One row of the index."""


def check_shard(
    path: Path, entry: ShardEntry, rows: Sequence[Row], columns: tuple[str, ...]
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
        return [f"{path}: {first}: bytes 0-{entry.bytes - 1}: {what}"]
    try:
        whole = path.stat().st_size == entry.bytes and sha256_file(path) == entry.sha256
        with path.open("rb") as stream:
            tar = _Tar(path, stream, entry.bytes, path.stat().st_size, whole, [])
            parts = sorted((p for row in rows for p in _parts(row)), key=lambda part: part.offset)
            _check_layout(tar, parts)
            for row in rows:
                _check_row(tar, row, columns)
            if not (whole or tar.findings):
                what = "another sha256 than in the manifest, but all members are as the index says"
                tar.tell("-", 0, tar.size, what)
            return tar.findings
    except OSError as error:
        return [f"{path}: -: bytes 0-{entry.bytes - 1}: cannot be read: {error.strerror}"]


@dataclass(frozen=True, slots=True)
class Media:
    """A media member that is to be decoded, and what the index says about it."""

    path: Path
    row: Row


def check_media(job: Media) -> str:
    """Decode one media member; returns a finding, or "".

    A member that has not the bytes of the index is :func:`check_shard`'s finding.
    """
    row = job.row
    with job.path.open("rb") as stream:
        data = _read(stream, job.path.stat().st_size, row["media_offset"], row["media_size"])
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        return ""
    try:
        found = (probe_image if row["ext"] in IMAGE_EXTENSIONS else probe_video)(data)
    except Rejected as rejected:
        return media_finding(job, f"does not decode: {rejected}")
    wrong = [
        f"{name} {getattr(found, name)}, not {row[name]}"
        for name in ("ext", "frames", "width", "height")
        if getattr(found, name) != row[name]
    ]
    if row["idx_offset"] >= 0 and not _same_packets(job, found.packets):
        wrong.append("other packets than its idx says")
    return media_finding(job, f"decodes to {', '.join(wrong)}") if wrong else ""


def _same_packets(job: Media, found: PacketIndex | None) -> bool:
    """Whether the packet index of a sample is that of its media; the layers are not compared."""
    with job.path.open("rb") as stream:
        stream.seek(job.row["idx_offset"])
        try:
            noted = PacketIndex.from_bytes(stream.read(job.row["idx_size"]))
        except IdxError:
            return True  # damaged: check_shard's finding
    columns = ("offset", "size", "number")
    return found is not None and all(
        np.array_equal(getattr(found, name), getattr(noted, name)) for name in columns
    )


def media_finding(job: Media, what: str) -> str:
    """A finding about a media member."""
    first = job.row["media_offset"]
    return (
        f"{job.path}: {job.row['key']}: bytes {first}-{first + job.row['media_size'] - 1}: {what}"
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """A member, where the index says it is."""

    key: str
    ext: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.key}.{self.ext}"

    @property
    def header(self) -> int:
        return self.offset - tarfile.BLOCKSIZE

    @property
    def end(self) -> int:
        """Behind the padding."""
        return self.offset + self.size + -self.size % tarfile.BLOCKSIZE


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
    findings: list[str]

    def read(self, at: int, size: int) -> bytes:
        return _read(self.stream, self.size, at, size)

    def tell(self, key: str, at: int, end: int, what: str) -> None:
        blame = "; the tar is as its manifest says, the index is not" if self.whole else ""
        self.findings.append(f"{self.path}: {key}: bytes {at}-{end - 1}: {what}{blame}")


def _read(stream: BinaryIO, end: int, at: int, size: int) -> bytes:
    """Bytes from ``at``; fewer where the file, which ends at ``end``, has fewer."""
    if not 0 <= at < end or size <= 0:
        return b""
    stream.seek(at)
    return stream.read(min(size, end - at))


def _parts(row: Row) -> list[_Part]:
    parts = [
        _Part(row["key"], row["ext"], row["media_offset"], row["media_size"]),
        _Part(row["key"], "json", row["json_offset"], row["json_size"]),
    ]
    if row["idx_offset"] >= 0:
        parts.append(_Part(row["key"], "idx", row["idx_offset"], row["idx_size"]))
    return parts


def _check_layout(tar: _Tar, parts: Sequence[_Part]) -> None:
    """The members of the index, put side by side, against the length of the tar."""
    at, key = 0, "-"
    for part in parts:
        if part.end > tar.expected:
            tar.tell(part.key, part.header, part.end, f"{part.name} would lie behind the end")
            continue
        if part.header > at:
            tar.tell(part.key, at, part.header, "no row of the index names what lies here")
        elif part.header < at:
            tar.tell(part.key, part.header, part.end, f"{part.name} overlaps what is before it")
        at, key = max(at, part.end), part.key
    end = at + 2 * tarfile.BLOCKSIZE
    end += -end % tarfile.RECORDSIZE
    if end != tar.expected:
        tar.tell(key, at, tar.expected, "no row of the index names what lies here")
    elif tar.read(at, end - at).strip(b"\0"):
        tar.tell(key, at, end, "the end of the archive is damaged")
    if tar.size > tar.expected:
        tar.tell(key, tar.expected, tar.size, "bytes behind the end of the archive")
    elif tar.size < tar.expected:
        lost = list(dict.fromkeys(part.key for part in parts if part.end > tar.size))
        what = f"cut off, {len(lost):,} samples are not whole from this one on"
        tar.tell((lost or [key])[0], tar.size, tar.expected, what)


def _check_row(tar: _Tar, row: Row, columns: tuple[str, ...]) -> None:
    """Headers, padding and contents of one sample."""
    parts = _parts(row)
    if any(tar.size < part.end <= tar.expected for part in parts):
        return  # cut off, and told
    for part in parts:
        try:
            header = member_header(part.name, part.size)
        except ValueError:
            header = b"none"
        if tar.read(part.header, tarfile.BLOCKSIZE) != header:
            what = f"not the header of {part.name}, {part.size:,} bytes"
            tar.tell(part.key, part.header, part.offset, what)
        after = part.offset + part.size
        if tar.read(after, part.end - after).strip(b"\0"):
            tar.tell(part.key, after, part.end, f"the padding of {part.name} is damaged")
    _check_json(tar, row, parts, columns)
    if tar.whole:
        return  # the json, as the manifest's sha256 vouches for it, has the sha256 of the media
    media = parts[0]
    if hashlib.sha256(tar.read(media.offset, media.size)).hexdigest() != row["sha256"]:
        end = media.offset + media.size
        tar.tell(media.key, media.offset, end, f"{media.name} has another sha256")
    for packets in parts[2:]:
        try:
            PacketIndex.from_bytes(tar.read(packets.offset, packets.size))
        except IdxError as error:
            end = packets.offset + packets.size
            tar.tell(packets.key, packets.offset, end, f"{packets.name}: {error}")


def _check_json(tar: _Tar, row: Row, parts: Sequence[_Part], columns: tuple[str, ...]) -> None:
    """The json of a sample against its index row."""
    info = parts[1]
    text = tar.read(info.offset, info.size)
    crc32 = zlib.crc32(text)
    what = ""
    if crc32 != row["json_crc32"]:
        what = f"{info.name} has another crc32"
    else:
        members = {part.ext: Member(part.name, part.offset, part.size, crc32) for part in parts}
        try:
            found = index_row(tar.path.name, info.key, json.loads(text), members, columns)
            wrong = [name for name, value in found.items() if value != row[name]]
            what = f"{info.name} and index differ in {', '.join(wrong)}" if wrong else ""
        except (ValueError, KeyError, TypeError, AttributeError):
            what = f"{info.name} is not the json of this sample"
    if what:
        tar.tell(info.key, info.offset, info.offset + info.size, what)
