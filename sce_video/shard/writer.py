"""Deterministic WebDataset tars: the bytes depend on the members only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sce_video.shard.format import PARTIAL


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member's data lie in its tar. Read back, only ``json`` members have their CRC-32."""

    name: str
    offset: int
    size: int
    crc32: int


class TarWriter:
    """Writes one plain tar (ustar) under a temporary name; :meth:`commit` gives it its own.

    Left without a commit, the temporary file is deleted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(path.name + PARTIAL)
        self._stream = self._partial.open("wb")
        self._digest = hashlib.sha256()
        self._offset = 0

    def add(self, name: str, data: bytes) -> Member:
        """Append a member."""
        self._write(member_header(name, len(data)))
        member = Member(name, self._offset, len(data), zlib.crc32(data))
        self._write(data)
        self._write(bytes(-len(data) % tarfile.BLOCKSIZE))
        return member

    def commit(self) -> tuple[int, str]:
        """End the tar, flush it to the disk and rename it. Returns its size and sha256."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self._offset % tarfile.RECORDSIZE))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._partial.replace(self.path)
        return self._offset, self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self._offset += len(data)

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):  # a full disk, told already; the file goes anyway
            self._stream.close()
        self._partial.unlink(missing_ok=True)  # after a commit there is none


def member_header(name: str, size: int) -> bytes:
    """The tar header of a member; owner, mode and time are fixed.

    Raises:
        ValueError: a tar cannot hold such a name or size.
    """
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    return header.tobuf(tarfile.USTAR_FORMAT)


def index_row(
    shard: str,
    key: str,
    fields: dict[str, Any],
    members: dict[str, Member],
    columns: tuple[str, ...],
) -> dict[str, Any]:
    """The index row of a sample, from its ``json`` and where its members lie.

    Args:
        shard: file name of the tar.
        key: key of the sample.
        fields: the parsed ``json`` member.
        members: extension -> place in the tar.
        columns: split columns.
    """
    media, info, packets = members[fields["ext"]], members["json"], members.get("idx")
    return {
        "shard": shard,
        "key": key,
        "path": fields["path"],
        "ext": fields["ext"],
        "media_offset": media.offset,
        "media_size": media.size,
        "json_offset": info.offset,
        "json_size": info.size,
        "json_crc32": info.crc32,
        "idx_offset": packets.offset if packets else -1,
        "idx_size": packets.size if packets else 0,
        **{name: fields[name] for name in ("label", "class", "sha256", "duration", "fps")},
        **{name: fields[name] for name in ("frames", "width", "height")},
        **{column: fields["splits"].get(column, "") for column in columns},
    }


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Index rows of a finished shard, from the tar alone.

    Raises:
        OSError, tarfile.TarError, KeyError, ValueError: the tar is not one of ours.
    """
    samples: dict[str, tuple[dict[str, Any], dict[str, Member]]] = {}
    with tarfile.open(path, "r:") as tar:
        for info in tar:
            key, _, ext = info.name.partition(".")
            fields, members = samples.setdefault(key, ({}, {}))
            crc32 = 0
            if ext == "json" and (stream := tar.extractfile(info)) is not None:
                text = stream.read()
                crc32 = zlib.crc32(text)
                fields.update(json.loads(text))
            members[ext] = Member(info.name, info.offset_data, info.size, crc32)
    return [
        index_row(path.name, key, fields, members, columns)
        for key, (fields, members) in samples.items()
    ]
