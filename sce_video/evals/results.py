"""Files of results: written whole or not at all, and never over another evaluation's."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sce_video.documents import DocumentError, read_json
from sce_video.errors import UsageError
from sce_video.files import write_whole
from sce_video.text import cell

# What the protocols of results that may replace each other have in common.
_LISTS = ("manifest_sha256", "bank", "queries", "split")
_VIEWS = ("views", "size", "frames", "seconds")
_VOTES = ("k", "temp", "votes")
_SHOWN = 100  # characters of a value in a message


def check_replaces(path: Path, protocol: Mapping[str, Any], hint: str = "give --out, or ") -> None:
    """Refuse to replace the result of another evaluation; one of another encoder may go.

    Args:
        path: of the result, there or not.
        protocol: of the result to come.
        hint: what to do instead of removing it.

    Raises:
        UsageError: it is of another set, other lists, views or votes.
    """
    try:
        there = read_json(path, dict, finite=False).get("protocol")
    except (FileNotFoundError, DocumentError):
        return
    if not isinstance(there, dict):  # a damaged one, too
        return
    differing = "; ".join(
        f"{name} {_short(there[name])}, here {_short(protocol[name])}"
        for name in (*_LISTS, *_VIEWS, *_VOTES)
        if name in there and name in protocol and there[name] != protocol[name]
    )
    if differing:
        raise UsageError(
            f"{path}: is the result of another evaluation ({differing}); {hint}remove it"
        )


def _short(value: object) -> str:
    """A value for a message; of a sha256 the first digits."""
    text = str(value)
    if len(text) == 64:
        return text[:12]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object, indented; its folder is made. No figure is NaN or infinite."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(content, indent=1, allow_nan=False).encode())


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whose texts no sheet takes for formulas; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    cells = ([cell(x) if isinstance(x, str) else x for x in row] for row in rows)
    csv.writer(text, lineterminator="\n").writerows([header, *cells])
    write_whole(path, text.getvalue().encode())
