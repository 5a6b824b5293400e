"""Deterministic WebDataset tars: the bytes depend on the members only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sce_video.files import PARTIAL


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

    def add(self, name: str, data: bytes) -> tarfile.TarInfo:
        """Append a member."""
        member = _member(name, self._offset + tarfile.BLOCKSIZE, len(data))
        self._write(member.tobuf(tarfile.USTAR_FORMAT))
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


def _member(name: str, offset: int, size: int) -> tarfile.TarInfo:
    """A member whose data begin at ``offset``; owner, mode and time are the fixed ones."""
    member = tarfile.TarInfo(name)
    member.offset, member.offset_data, member.size = offset - tarfile.BLOCKSIZE, offset, size
    return member


def index_row(
    shard: str,
    key: str,
    text: bytes,
    members: Mapping[str, tarfile.TarInfo],
    columns: Sequence[str],
) -> dict[str, Any]:
    """The index row of a sample, from its ``json`` and where its members lie.

    Args:
        shard: file name of the tar.
        key: key of the sample.
        text: the ``json`` member.
        members: extension -> place in the tar.
        columns: split columns.

    Raises:
        KeyError, ValueError, TypeError, AttributeError: it is not the json of such a sample.
    """
    fields = json.loads(text)
    media, info, packets = members[fields["ext"]], members["json"], members.get("idx")
    return {
        "shard": shard,
        "key": key,
        "path": fields["path"],
        "ext": fields["ext"],
        "media_offset": media.offset_data,
        "media_size": media.size,
        "json_offset": info.offset_data,
        "json_size": info.size,
        "json_crc32": zlib.crc32(text),
        "idx_offset": packets.offset_data if packets else -1,
        "idx_size": packets.size if packets else 0,
        **{name: fields[name] for name in ("label", "class", "sha256", "duration", "fps")},
        **{name: fields[name] for name in ("frames", "width", "height")},
        **{column: fields["splits"].get(column, "") for column in columns},
    }


def row_members(row: Mapping[str, Any]) -> list[tarfile.TarInfo]:
    """The media, the ``json`` and perhaps the ``idx`` member, as an index row has them."""
    kinds = {"media": row["ext"], "json": "json", "idx": "idx"}
    members = [
        _member(f"{row['key']}.{ext}", row[f"{kind}_offset"], row[f"{kind}_size"])
        for kind, ext in kinds.items()
    ]
    return members if row["idx_offset"] >= 0 else members[:2]


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Index rows of a finished shard, from the tar alone.

    Raises:
        OSError, tarfile.TarError, KeyError, ValueError: the tar is not one of ours.
    """
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    texts: dict[str, bytes] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            key, _, ext = member.name.partition(".")
            samples.setdefault(key, {})[ext] = member
            if ext == "json" and (stream := tar.extractfile(member)) is not None:
                texts[key] = stream.read()
    return [index_row(path.name, key, texts[key], own, columns) for key, own in samples.items()]
