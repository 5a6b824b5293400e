"""The files of a run that the page is made of; what is damaged is left out and said.

A run's folder may be somebody else's: no link in it is followed, and all that is read is bounded.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from sce_video.documents import DocumentError, parse_json, parse_yaml
from sce_video.engine.status import STATUS_NAME, is_alive
from sce_video.engine.track import METRICS_NAME, in_order
from sce_video.errors import UsageError
from sce_video.files import open_plain, read_plain

# Kinds of results, which are the names of their folders, and what the page calls them.
RESULTS = {"retrieval": "Retrieval", "knn": "Nearest neighbours", "test": "Test"}
RESULT_FILES = {kind: f"{kind}/{kind}.json" for kind in RESULTS}
_FILES = ("config.yaml", STATUS_NAME, METRICS_NAME, "results.json", *RESULT_FILES.values())
_RECORD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", re.MULTILINE)
_HEAD = re.compile(r"\w+(?: rank \d+)?: (this run|environment)\b")

DAMAGED = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
"""What comes of a file with other content than ours."""
MOST = 1 << 24
"""Bytes of a file that is read as a whole, where it has no limit of its own."""
_MOST_NEIGHBOURS = 1 << 25  # of 200,000 queries
_MOST_CONFIG = 1 << 18
_TAIL = 1 << 24  # bytes of the metrics that are read, the newest
_LOG_TAIL = 1 << 23  # of the log
_SERIES = 200  # of the metrics that are shown at most
_PLAN = 200  # lines
_SHOWN = 4000  # characters of a line of the plan, and of the last record


@dataclass(frozen=True)
class RunFiles:
    """A run's files, parsed; None or empty where one is absent or damaged."""

    folder: Path
    written: datetime  # when the newest of the files was, UTC
    metrics: list[dict[str, float]]
    config: str | None
    status: dict[str, Any]
    alive: bool  # whether a process trains it
    plan: list[str]  # lines of the plan, at the head of the log
    last: str | None  # what the log says last
    results: dict[str, dict[str, Any]]  # kind -> content of its file
    neighbours: list[dict[str, Any]] | None
    per_class: dict[str, dict[str, float]]  # class -> its figures in the test
    comparison: dict[str, Any] | None
    spread: dict[str, Any] | None = None  # of the tests of several runs, this one's among them
    problems: list[str] = field(default_factory=list)  # what is damaged, a sentence each

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The parsed configuration; empty where it is damaged, for its text is shown, too."""
        try:
            config = parse_yaml(self.config or "")
        except DocumentError:
            return {}
        return config if isinstance(config, dict) else {}


def read_run(folder: Path) -> RunFiles:
    """Read what ``folder`` holds of a run.

    Raises:
        UsageError: none of the files that a run leaves is there.
    """
    found = [folder / name for name in _FILES if os.path.lexists(folder / name)]
    if not found:
        raise UsageError(f"{folder}: not a run's folder (none of {', '.join(_FILES)} is there)")
    problems: list[str] = []
    plan, last = _log(_text(folder, "run.log", _LOG_TAIL, problems, tail=True) or "")
    run = RunFiles(
        folder=folder,
        written=_newest(found),
        metrics=_metrics(folder, problems),
        config=_text(folder, "config.yaml", _MOST_CONFIG, problems),
        status=_json(folder, STATUS_NAME, dict, problems) or {},
        alive=is_alive(folder),
        plan=plan,
        last=last,
        results={
            kind: value
            for kind, name in RESULT_FILES.items()
            if (value := _json(folder, name, dict, problems))
        },
        neighbours=_json(
            folder, "retrieval/neighbours.json", list, problems, limit=_MOST_NEIGHBOURS
        ),
        per_class=_per_class(folder, problems),
        comparison=_json(folder, "results.json", dict, problems),
        spread=_json(folder, "test/mean.json", dict, problems),
        problems=problems,
    )
    try:
        parse_yaml(run.config or "")
    except DocumentError as error:
        problems.append(f"config.yaml: {error}; only its text is shown.")
    return run


def read_inside(folder: Path, name: str, limit: int = MOST) -> bytes:
    """All bytes of a file of a run's folder.

    Raises:
        OSError: there is none, it is larger than ``limit``, or it, or a folder on the way, is a
            link, or what is no file.
    """
    return read_plain(_inside(folder, name), limit=limit)


def _inside(folder: Path, name: str) -> Path:
    """The path of a file in a run's folder, without a link on the way."""
    path = folder / name
    for above in path.parents[: name.count("/")]:
        if above.is_symlink():
            raise OSError(errno.ELOOP, f"lies in a folder that is a link ({above.name})", str(path))
    return path


def _text(
    folder: Path, name: str, limit: int, problems: list[str], *, tail: bool = False
) -> str | None:
    """The text of a run's file, None where there is none that can be read.

    Args:
        folder: of the run.
        name: of the file.
        limit: bytes that it may have.
        problems: receives why it, or what of it, was not read.
        tail: of a larger file read the newest bytes, from a line's start on.
    """
    try:
        if not tail:
            return read_inside(folder, name, limit).decode("utf-8", "replace")
        with os.fdopen(open_plain(_inside(folder, name)), "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - limit))
            data = stream.read(limit)
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(f"{name}: {error.strerror}; it is left out.")
        return None
    if size > limit:
        data = data.partition(b"\n")[2]
        problems.append(
            f"{name}: has {size:,} bytes; the newest {len(data):,} are read, what is older is left "
            "out."
        )
    return data.decode("utf-8", "replace")


def _newest(paths: Sequence[Path]) -> datetime:
    """When the newest file was written; a time that no calendar has counts as now."""
    try:
        return datetime.fromtimestamp(max(path.lstat().st_mtime for path in paths), UTC)
    except (OSError, OverflowError, ValueError):
        return datetime.now(UTC)


def _metrics(folder: Path, problems: list[str]) -> list[dict[str, float]]:
    """The rows that can be read: a run that was killed, or still writes, has half a line."""
    rows, bad, number = [], [], 0
    text = _text(folder, METRICS_NAME, _TAIL, problems, tail=True) or ""
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        try:
            rows.append(_row(line))
        except (DocumentError, LookupError, TypeError):
            bad.append(number)
    if bad:
        problems.append(
            f"{METRICS_NAME}: {len(bad):,} of {number:,} lines cannot be read and are left out "
            f"(the first is line {bad[0]:,})."
        )
    return in_order(_few_series(rows, problems))


def _row(line: str) -> dict[str, float]:
    """A row's numbers."""
    row = parse_json(line, finite=False)
    if type(row["step"]) is not int or not 0 <= row["step"] < 1 << 53:
        raise TypeError("no step")
    return {k: v for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _few_series(rows: list[dict[str, float]], problems: list[str]) -> list[dict[str, float]]:
    """Rows with what can be drawn: so many series, with names of a length that can be read."""
    names = dict.fromkeys(name for row in rows for name in row)
    kept = {"step", *[name for name in names if len(name) <= 100][:_SERIES]}
    if names.keys() <= kept:
        return rows
    problems.append(f"{METRICS_NAME}: {len(names.keys() - kept):,} series are left out.")
    return [{name: value for name, value in row.items() if name in kept} for row in rows]


def _per_class(folder: Path, problems: list[str]) -> dict[str, dict[str, float]]:
    try:
        text = _text(folder, "test/per_class.csv", MOST, problems)
        table = csv.DictReader(io.StringIO(text or "class"))
        if "class" not in (table.fieldnames or ()):
            raise ValueError("no column class")
        return {row.pop("class"): {k: _figure(v) for k, v in row.items()} for row in table}
    except (csv.Error, ValueError, AttributeError, TypeError) as error:
        problems.append(f"per_class.csv: damaged ({error!r:.300}); it is left out.")
        return {}


def _figure(text: str) -> float:
    return int(text) if text.isdecimal() and len(text) < 16 else float(text or "nan")


def _log(text: str) -> tuple[list[str], str | None]:
    """What a run's log says at its newest start, and its last record if it is another one."""
    records = [record.strip() for record in _RECORD.split(text) if record.strip()]
    heads = [(i, found[1]) for i, record in enumerate(records) if (found := _HEAD.match(record))]
    newest = {kind: records[i] for i, kind in heads}
    lines = newest.get("this run", "").splitlines()[1:]
    if "environment" in newest:
        lines.append(newest["environment"].partition(": ")[2])
    ended = bool(records) and (not heads or heads[-1][0] < len(records) - 1)
    return [line[:_SHOWN] for line in lines[:_PLAN]], records[-1][-_SHOWN:] if ended else None


def _json(folder: Path, name: str, kind: type, problems: list[str], *, limit: int = MOST) -> Any:
    """A JSON file's value, None where there is no file or another value than a ``kind``."""
    short = name.rpartition("/")[2]
    try:
        value = parse_json(read_inside(folder, name, limit), finite=False)
    except FileNotFoundError:
        return None
    except DocumentError as error:
        problems.append(f"{short}: damaged ({error}); it is left out.")
        return None
    except OSError as error:
        problems.append(f"{name}: {error.strerror}; it is left out.")
        return None
    if not isinstance(value, kind):
        problems.append(f"{short}: not what a run writes; it is left out.")
        return None
    return value
