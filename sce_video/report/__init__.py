"""One self-contained HTML page about a run: comparison, gallery, retrieval, curves, settings.

The page holds its data as JSON and builds itself in the browser; nothing is loaded from elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sce_video.report.curves import curves
from sce_video.report.gallery import gallery
from sce_video.report.inputs import RunFiles, read_run
from sce_video.report.page import picture_uri, render
from sce_video.report.tables import facts, headline, knn_table, retrieval_table
from sce_video.shard.format import write_atomic

REPORT_NAME = "report.html"

__all__ = ["REPORT_NAME", "write_report"]


def write_report(run: Path) -> Path:
    """Write ``RUN/report.html`` from what the run's folder holds; returns its path.

    Args:
        run: a run's folder, with ``metrics.jsonl``, a retrieval result, or both.

    Raises:
        UsageError: neither is there.
        VerificationError: a file of the run cannot be parsed.
    """
    files = read_run(run)
    clips: dict[int, str] = {}
    document = {**_document(files), "gallery": gallery(files, clips)}
    path = run / REPORT_NAME
    write_atomic(path, render(document, clips).encode())
    return path


def _document(files: RunFiles) -> dict[str, Any]:
    """All that the page shows except the gallery; JSON values."""
    return {
        **facts(files),
        "headline": headline(files.results) if files.results else None,
        "retrieval": retrieval_table(files.retrieval) if files.retrieval else None,
        "knn": knn_table(files.knn) if files.knn else None,
        "curves": curves(files.metrics) if files.metrics else None,
        "views": picture_uri(files.views) if files.views else None,
        "config": files.config,
    }
