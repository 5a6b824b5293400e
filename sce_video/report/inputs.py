"""The files of a run that the page is made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sce_video.engine.track import METRICS_NAME, read_metrics
from sce_video.errors import UsageError, VerificationError


@dataclass(frozen=True)
class RunFiles:
    """A run's files, parsed; None or empty where one is absent."""

    folder: Path
    written: datetime
    """Of the newest of the metrics and the results."""
    metrics: list[dict[str, float]]
    config: str | None
    status: dict[str, Any] | None
    views: Path | None
    """The picture of what the net sees."""
    retrieval: dict[str, Any] | None
    neighbours: list[dict[str, Any]] | None
    knn: dict[str, Any] | None
    results: dict[str, Any] | None


def read_run(folder: Path) -> RunFiles:
    """Read what ``folder`` holds of a run.

    Raises:
        UsageError: neither metrics nor a retrieval result is there.
        VerificationError: a file is damaged.
    """
    metrics, retrieval = folder / METRICS_NAME, folder / "retrieval" / "retrieval.json"
    found = [path for path in (metrics, retrieval) if path.is_file()]
    if not found:
        raise UsageError(
            f"{folder}: nothing to report (no {METRICS_NAME}, no retrieval/retrieval.json); "
            "give the folder of a run"
        )
    newest = max(path.stat().st_mtime for path in found)
    config, views = folder / "config.yaml", folder / "samples" / "views.png"
    return RunFiles(
        folder=folder,
        written=datetime.fromtimestamp(newest, UTC),
        metrics=_metrics(folder),
        config=config.read_text() if config.is_file() else None,
        status=_json(folder / "status.json"),
        views=views if views.is_file() else None,
        retrieval=_json(retrieval),
        neighbours=_json(retrieval.with_name("neighbours.json")),
        knn=_json(folder / "knn" / "knn.json"),
        results=_json(folder / "results.json"),
    )


def _metrics(folder: Path) -> list[dict[str, float]]:
    try:
        return read_metrics(folder)
    except (ValueError, KeyError) as error:
        raise VerificationError(f"{folder / METRICS_NAME}: damaged: {error}") from error


def _json(path: Path) -> Any:
    """A JSON file's value, None where there is no file."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise VerificationError(f"{path}: damaged: {error}") from error
