"""Rows of the index: what a sample's json and the places of its members in a tar make of it."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sce_video.shardset.index import FIXED_COLUMNS, IndexRow
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
    fields: dict[str, Any] = json.loads(text)
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
    noted = sum((noted_facts(json.loads(text)) for text in texts.values()), Counter[str]())
    rows = [index_row(path.name, key, texts[key], own, columns) for key, own in samples.items()]
    return rows, noted
