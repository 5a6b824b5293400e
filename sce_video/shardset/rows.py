"""Rows of the index: what a sample's json and the places of its members in a tar make of it."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from sce_video.documents import parse_json
from sce_video.errors import VerificationError
from sce_video.files import open_plain
from sce_video.shardset.checks import LARGEST_JSON
from sce_video.shardset.index import FIXED_COLUMNS, IndexRow
from sce_video.shardset.tar_members import walk_tar
from sce_video.video.facts import NOTED


def tar_member(name: str, offset: int, size: int) -> tarfile.TarInfo:
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
) -> IndexRow:
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
    fields: dict[str, Any] = parse_json(text)
    row: IndexRow = {"shard": shard, "key": key, "json_crc32": zlib.crc32(text)}
    for kind, ext in (("media", fields["ext"]), ("json", "json"), ("idx", "idx")):
        member = members.get(ext) if kind == "idx" else members[ext]
        row[f"{kind}_offset"] = -1 if member is None else member.offset_data
        row[f"{kind}_size"] = 0 if member is None else member.size
    row |= {name: fields[name] for name in FIXED_COLUMNS if name not in row}
    return row | {column: fields["splits"].get(column, "") for column in columns}


def row_members(row: IndexRow) -> list[tarfile.TarInfo]:
    """The media, the ``json`` and perhaps the ``idx`` member, as an index row has them."""
    kinds = {"media": row["ext"], "json": "json", "idx": "idx"}
    members = [
        tar_member(f"{row['key']}.{ext}", row[f"{kind}_offset"], row[f"{kind}_size"])
        for kind, ext in kinds.items()
    ]
    return members if row["idx_offset"] >= 0 else members[:2]


def noted_facts(fields: Mapping[str, Any]) -> Counter[str]:
    """What a sample's json says of its source that no decoder acts upon, each once."""
    source = fields.get("source", fields)
    return Counter(name for name in NOTED if source.get(name))


def read_rows(path: Path, columns: Sequence[str]) -> tuple[list[IndexRow], Counter[str]]:
    """Index rows of a finished shard, and its noted facts, from the tar alone.

    Raises:
        OSError: it cannot be read.
        VerificationError: it is not one of ours.
    """
    rows: list[IndexRow] = []
    noted = Counter[str]()
    with os.fdopen(open_plain(path), "rb") as stream:
        try:
            for key, members in _samples(stream):
                stream.seek(members["json"].offset_data)
                text = stream.read(min(members["json"].size, LARGEST_JSON))
                rows.append(index_row(path.name, key, text, members, columns))
                noted += noted_facts(parse_json(text))
        except (tarfile.TarError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise VerificationError(f"{path}: no shard of this package; shard again") from error
    return rows, noted


def _samples(stream: BinaryIO) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Key and members by extension of each sample in a plain tar, whose members are neighbours.

    Raises:
        tarfile.TarError, ValueError: it is another kind of tar, or none.
    """
    at, key, members = 0, "", dict[str, tarfile.TarInfo]()
    for member in walk_tar(stream, os.fstat(stream.fileno()).st_size):
        headers = (member.offset - at) // tarfile.BLOCKSIZE  # ours have no others before their own
        if member.kind != tarfile.REGTYPE or headers != 1 or not member.name.isascii():
            raise ValueError("no plain file")
        place = tar_member(member.name, member.offset, member.size)
        at = place.offset_data + place.size + -place.size % tarfile.BLOCKSIZE
        own, _, ext = member.name.partition(".")
        if own != key and members:
            yield key, members
        if own != key:
            key, members = own, {}
        members[ext] = place
    if members:
        yield key, members
