"""The files of a run that the page is made of; what is damaged is left out and said."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from sce_video.engine.status import STATUS_NAME, is_alive
from sce_video.engine.track import METRICS_NAME, in_order
from sce_video.errors import UsageError

# Kinds of results, which are the names of their folders, and what the page calls them.
RESULTS = {"retrieval": "Retrieval", "knn": "Nearest neighbours", "test": "Test"}
_RESULT_FILES = {kind: f"{kind}/{kind}.json" for kind in RESULTS}
_FILES = ("config.yaml", STATUS_NAME, METRICS_NAME, "results.json", *_RESULT_FILES.values())
_RECORD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", re.MULTILINE)
_HEAD = re.compile(r"\w+(?: rank \d+)?: (this run|environment)\b")


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
            config = yaml.safe_load(self.config or "")
        except yaml.YAMLError:
            return {}
        return config if isinstance(config, dict) else {}


def read_run(folder: Path) -> RunFiles:
    """Read what ``folder`` holds of a run.

    Raises:
        UsageError: none of the files that a run leaves is there.
    """
    found = [folder / name for name in _FILES if (folder / name).is_file()]
    if not found:
        raise UsageError(f"{folder}: not a run's folder (none of {', '.join(_FILES)} is there)")
    problems: list[str] = []
    newest = max(path.stat().st_mtime for path in found)
    plan, last = _log(_text(folder / "run.log") or "")
    return RunFiles(
        folder=folder,
        written=datetime.fromtimestamp(newest, UTC),
        metrics=_metrics(folder, problems),
        config=_text(folder / "config.yaml"),
        status=_json(folder / STATUS_NAME, dict, problems) or {},
        alive=is_alive(folder),
        plan=plan,
        last=last,
        results={
            kind: value
            for kind, name in _RESULT_FILES.items()
            if (value := _json(folder / name, dict, problems))
        },
        neighbours=_json(folder / "retrieval" / "neighbours.json", list, problems),
        per_class=_per_class(folder / "test" / "per_class.csv", problems),
        comparison=_json(folder / "results.json", dict, problems),
        spread=_json(folder / "test" / "mean.json", dict, problems),
        problems=problems,
    )


def _metrics(folder: Path, problems: list[str]) -> list[dict[str, float]]:
    """The rows that can be read: a run that was killed, or still writes, has half a line."""
    rows, bad, number = [], [], 0
    for number, line in enumerate((_text(folder / METRICS_NAME) or "").splitlines(), 1):
        try:
            row = json.loads(line)
            numbers = {k: v for k, v in row.items() if isinstance(v, int | float)}
            rows.append(numbers | {"step": int(row["step"])})
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            bad.append(number)
    if bad:
        problems.append(
            f"{METRICS_NAME}: {len(bad):,} of {number:,} lines cannot be read and are left out "
            f"(the first is line {bad[0]:,})."
        )
    return in_order(rows)


def _per_class(path: Path, problems: list[str]) -> dict[str, dict[str, float]]:
    try:
        table = csv.DictReader(io.StringIO(_text(path) or "class"))
        if "class" not in (table.fieldnames or ()):
            raise ValueError("no column class")
        return {row.pop("class"): {k: _figure(v) for k, v in row.items()} for row in table}
    except (csv.Error, ValueError, AttributeError) as error:
        problems.append(f"{path.name}: damaged ({error!r}); it is left out.")
        return {}


def _figure(text: str) -> float:
    return int(text) if text.isdigit() else float(text or "nan")


def _log(text: str) -> tuple[list[str], str | None]:
    """What a run's log says at its newest start, and its last record if it is another one."""
    records = [record.strip() for record in _RECORD.split(text) if record.strip()]
    heads = [(i, found[1]) for i, record in enumerate(records) if (found := _HEAD.match(record))]
    newest = {kind: records[i] for i, kind in heads}
    lines = newest.get("this run", "").splitlines()[1:]
    if "environment" in newest:
        lines.append(newest["environment"].partition(": ")[2])
    ended = bool(records) and (not heads or heads[-1][0] < len(records) - 1)
    return lines, records[-1] if ended else None


def _json(path: Path, kind: type, problems: list[str]) -> Any:
    """A JSON file's value, None where there is no file or another value than a ``kind``."""
    text = _text(path)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        problems.append(f"{path.name}: damaged ({error}); it is left out.")
        return None
    if not isinstance(value, kind):
        problems.append(f"{path.name}: not what a run writes; it is left out.")
        return None
    return value


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
