"""One self-contained HTML page about runs: comparison, results, gallery, curves, settings.

The page holds its data as JSON and builds itself in the browser; nothing is loaded from elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sce_video.errors import UsageError
from sce_video.files import write_whole
from sce_video.lock import LOCK_NAME, Lock
from sce_video.report.compare import compare
from sce_video.report.curves import curves
from sce_video.report.gallery import galleries
from sce_video.report.inputs import RESULTS, RunFiles, read_run
from sce_video.report.page import picture_uri, render
from sce_video.report.spread import means, spread_table
from sce_video.report.tables import facts, headline, result_table

REPORT_NAME = "report.html"


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write a page from what the folders of ``runs`` hold; returns its path.

    Args:
        runs: folders, finished or not; what is damaged in them is named on the page.
        out: the page's file (default: ``report.html`` in the folder of a single run, of several
            in the working folder).

    Raises:
        UsageError: a folder is no run's, or is given twice, or the page cannot be written there,
            or is being written.
    """
    folders = [run.resolve() for run in runs]
    if len(set(folders)) < len(folders):
        raise UsageError("a run is given twice")
    files = [read_run(run) for run in runs]
    path = _writable(out or (runs[0] if len(runs) == 1 else Path()) / REPORT_NAME)
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    # Not the folder's own lock: a run may be trained while a page is made of it.
    with Lock(path.with_name(f"{path.name}.{LOCK_NAME}"), guarded=path):
        write_whole(path, _page(names, files).encode())
    return path


def _page(names: Sequence[str], files: Sequence[RunFiles]) -> str:
    """The page of runs, as HTML."""
    clips: dict[str, str] = {}
    found, videos = galleries(files, clips)
    described = [
        {"name": name, **_run(each), "gallery": shown}
        for name, each, shown in zip(names, files, found, strict=True)
    ]
    document = {
        "title": " · ".join(names),
        "runs": described,
        "means": means(names, files),
        "comparison": compare(names, files) if len(files) > 1 else None,
        "curves": curves([each.metrics for each in files]),
        "videos": videos,
    }
    return render(document, clips)


def _writable(path: Path) -> Path:
    """``path``, where a page can be written.

    Raises:
        UsageError: it is a folder, or its folder is not there or cannot be written in.
    """
    if path.is_dir():
        raise UsageError(f"{path}: a folder; give the page's file, e.g. {path / REPORT_NAME}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path}: {path.parent} cannot be written in; give another file by --out")
    return path


def _run(files: RunFiles) -> dict[str, Any]:
    """All that the page shows of one run except curves and gallery; JSON values."""

    def part(name: str, build: Callable[..., Any], *values: Any) -> Any:
        """What ``build`` makes; a file with other content than ours is named instead."""
        if not values[0]:
            return None
        try:
            return build(*values)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError) as error:
            files.problems.append(f"{name}: damaged ({error!r}); it is left out.")
            return None

    results = [
        part(f"{kind}/{kind}.json", result_table, files.results.get(kind), kind, classes)
        for kind, classes in zip(RESULTS, ({}, {}, files.per_class), strict=True)
    ]
    results.append(part("test/mean.json", spread_table, files.spread))
    return {
        **facts(files),
        "headline": part("results.json", headline, files.comparison),
        "results": [result for result in results if result],
        "confusion": part("test/confusion.png", picture_uri, files.folder / "test/confusion.png"),
        "views": part("samples/views.png", picture_uri, files.folder / "samples/views.png"),
        "config": files.config,
        "plan": files.plan,
        "problems": files.problems,
    }
