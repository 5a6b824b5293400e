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
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np

from sce_video.files import open_plain
from sce_video.shardset.checks import IMAGE_EXTENSIONS
from sce_video.shardset.index import IndexRow
from sce_video.shardset.manifest import ShardEntry
from sce_video.shardset.rows import index_row, row_members
from sce_video.video.examine import examine_video
from sce_video.video.examine_image import examine_image
from sce_video.video.facts import Rejected
from sce_video.video.packets import KEY, LAYER_SHIFT, IdxError, PacketIndex


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
    if not os.path.lexists(path):
        first = rows[0]["key"] if rows else "-"
        what = f"missing, {len(rows):,} samples from this one on"
        return [_finding(path, first, 0, entry.bytes, what)]
    try:
        with os.fdopen(open_plain(path), "rb") as stream:
            return _Tar(path, stream, entry).verify(rows, columns)
    except OSError as error:
        return [_finding(path, "-", 0, entry.bytes, f"cannot be read: {error.strerror}")]


@dataclass(frozen=True, slots=True)
class MediaJob:
    """A media member that is to be decoded, and what the index says about it."""

    path: Path
    row: IndexRow
    layered: bool  # transcoded by us

    def __str__(self) -> str:
        """What errors call it."""
        return f"{self.path}: {self.row['key']}"

    def finding(self, what: str) -> str:
        """A finding about it."""
        first, size = self.row["media_offset"], self.row["media_size"]
        return _finding(self.path, self.row["key"], first, first + size, what)


def verify_media(job: MediaJob) -> str:
    """Decode one media member; returns a finding, or "".

    A tar that cannot be read and a member that has not the bytes of the index are
    :func:`verify_shard`'s findings.
    """
    row = job.row
    try:
        with os.fdopen(open_plain(job.path), "rb") as stream:
            places = [(part.offset_data, part.size) for part in row_members(row)]
            data, _, *idx = (_read(stream, at, at + size) for at, size in places)
    except OSError:
        return ""
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        return ""
    noted = _noted(idx[0]) if idx else None
    try:
        if row["ext"] in IMAGE_EXTENSIONS:
            found = examine_image(data)
        else:
            found = examine_video(data, strict=job.layered, told=noted)
    except Rejected as rejected:
        return job.finding(f"does not decode: {rejected}")
    wrong = [
        f"{name} {getattr(found, name)}, not {row[name]}"
        for name in ("ext", "frames", "width", "height")
        if getattr(found, name) != row[name]
    ]
    if noted and _other_packets(noted, found.packets):
        wrong.append("other packets than its idx says")
    elif noted and not (found.check and found.check.holds(data, noted)):
        wrong.append("other frames than its idx gives")
    return job.finding(f"decodes to {', '.join(wrong)}") if wrong else ""


def _noted(idx: bytes) -> PacketIndex | None:
    """An ``idx`` member; None = damaged, which is :func:`verify_shard`'s finding."""
    try:
        return PacketIndex.from_bytes(idx)
    except IdxError:
        return None


def _other_packets(noted: PacketIndex, found: PacketIndex | None) -> bool:
    """Whether an index is not that of its media, or trusts packets that it must not trust.

    What else it says is checked by the frames it gives; times are not, no reader here uses them.
    None = no index can be made of the media.
    """
    if found is None:
        return True
    names = ("offset", "size", "number", "orientation")
    if any(not np.array_equal(getattr(found, name), getattr(noted, name)) for name in names):
        return True
    key, layer = noted.kind & KEY, noted.kind >> LAYER_SHIFT
    bold = (key > found.kind & KEY) | (layer > found.kind >> LAYER_SHIFT)
    return bool(bold.any())


def _finding(path: Path, key: str, at: int, end: int, what: str) -> str:
    return f"{path}: {key}: bytes {at}-{end - 1}: {what}"


def _read(stream: BufferedReader, at: int, end: int) -> bytes:
    """The bytes from ``at`` to ``end``; fewer where the file has fewer."""
    end = min(end, os.fstat(stream.fileno()).st_size)
    if not 0 <= at < end:
        return b""
    stream.seek(at)
    return stream.read(end - at)


def _end(part: tarfile.TarInfo) -> int:
    """Behind its padding."""
    return part.offset_data + part.size + -part.size % tarfile.BLOCKSIZE


class _Tar:
    """A tar under examination."""

    def __init__(self, path: Path, stream: BufferedReader, entry: ShardEntry) -> None:
        self._path, self._stream = path, stream
        self._expected, self._size = entry.bytes, os.fstat(stream.fileno()).st_size
        # It is what the manifest names: whatever is wrong is wrong in the index.
        self._whole = (
            self._size == entry.bytes
            and hashlib.file_digest(stream, "sha256").hexdigest() == entry.sha256
        )
        self._findings: list[str] = []

    def verify(self, rows: Sequence[IndexRow], columns: tuple[str, ...]) -> list[str]:
        """All findings."""
        self._verify_layout(rows)
        for row in rows:
            self._verify_row(row, columns)
        if not (self._whole or self._findings):
            what = "another sha256 than in the manifest, but all members are as the index says"
            self._tell("-", 0, self._size, what)
        return self._findings

    def _tell(self, key: str, at: int, end: int, what: str) -> None:
        blame = "; the tar is as its manifest says, the index is not" if self._whole else ""
        self._findings.append(_finding(self._path, key, at, end, what + blame))

    def _verify_layout(self, rows: Sequence[IndexRow]) -> None:
        """The members of the index, put side by side, against the length of the tar."""
        parts = [(row["key"], part) for row in rows for part in row_members(row)]
        parts.sort(key=lambda own: own[1].offset)
        at, last, expected = 0, "-", self._expected
        for key, part in parts:
            if _end(part) > expected:
                self._tell(key, part.offset, _end(part), f"{part.name} would lie behind the end")
                continue
            if part.offset > at:
                self._tell(key, at, part.offset, "no row of the index names what lies here")
            elif part.offset < at:
                what = f"{part.name} overlaps what is before it"
                self._tell(key, part.offset, _end(part), what)
            at, last = max(at, _end(part)), key
        end = at + 2 * tarfile.BLOCKSIZE
        end += -end % tarfile.RECORDSIZE
        if end != expected:
            self._tell(last, at, expected, "no row of the index names what lies here")
        elif _read(self._stream, at, end).strip(b"\0"):
            self._tell(last, at, end, "the end of the archive is damaged")
        if self._size > expected:
            self._tell(last, expected, self._size, "bytes behind the end of the archive")
        elif self._size < expected:
            lost = list(dict.fromkeys(key for key, part in parts if _end(part) > self._size))
            what = f"cut off, {len(lost):,} samples are not whole from this one on"
            self._tell((lost or [last])[0], self._size, expected, what)

    def _verify_row(self, row: IndexRow, columns: tuple[str, ...]) -> None:
        """Headers, padding and contents of one sample."""
        parts, key = row_members(row), row["key"]
        if any(self._size < _end(part) <= self._expected for part in parts):
            return  # cut off, and told
        for part in parts:
            after = part.offset_data + part.size
            try:
                header = part.tobuf(tarfile.USTAR_FORMAT)
            except ValueError:
                header = b"none"
            if _read(self._stream, part.offset, part.offset_data) != header:
                what = f"not the header of {part.name}, {part.size:,} bytes"
                self._tell(key, part.offset, part.offset_data, what)
            if _read(self._stream, after, _end(part)).strip(b"\0"):
                self._tell(key, after, _end(part), f"the padding of {part.name} is damaged")
        media, info, *packets = parts
        # The json of a tar that the manifest's sha256 vouches for has the sha256 of the media.
        for part in (info,) if self._whole else (info, media, *packets):
            after = part.offset_data + part.size
            data = _read(self._stream, part.offset_data, after)
            if what := _problem(part, data, row, columns):
                self._tell(key, part.offset_data, after, part.name + what)


def _problem(part: tarfile.TarInfo, data: bytes, row: IndexRow, columns: tuple[str, ...]) -> str:
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
        found = index_row(row["shard"], row["key"], data, members, columns)
    except (ValueError, KeyError, TypeError, AttributeError):
        return " is not the json of this sample"
    wrong = [name for name, value in found.items() if value != row[name]]
    return f" and index differ in {', '.join(wrong)}" if wrong else ""
