"""One self-contained HTML page about runs: comparison, results, gallery, curves, settings.

The page holds its data as JSON and builds itself in the browser; nothing is loaded from elsewhere.
Nor is anything while it is made: of sets only those are fetched whose address the user gives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sce_video.errors import UsageError
from sce_video.files import write_whole
from sce_video.lock import LOCK_NAME, Lock
from sce_video.report.compare import compare
from sce_video.report.curves import curves
from sce_video.report.gallery import evaluated, galleries
from sce_video.report.inputs import DAMAGED, RESULTS, RunFiles, read_inside, read_run
from sce_video.report.page import PICTURE_BYTES, picture_uri, render
from sce_video.report.spread import means, spread_table
from sce_video.report.tables import facts, headline, result_table
from sce_video.shardset.index import ShardIndex
from sce_video.stream.reader import open_set
from sce_video.text import printable

REPORT_NAME = "report.html"


def write_report(runs: Sequence[Path], out: Path | None = None, shards: Sequence[str] = ()) -> Path:
    """Write a page from what the folders of ``runs`` hold; returns its path.

    Args:
        runs: folders, finished or not; what is damaged in them is named on the page.
        out: the page's file (default: ``report.html`` in the folder of a single run, of several
            in the working folder).
        shards: where sets lie that the runs were evaluated on, folders or URLs; others are shown
            where the runs say, if that is on this machine.

    Raises:
        UsageError: a folder is no run's, or is given twice, or the page cannot be written there,
            or is being written, or no run was evaluated on one of ``shards``.
        SceVideoError: one of ``shards`` cannot be fetched or is damaged.
    """
    folders = [Path(os.path.realpath(run)) for run in runs]
    if len(set(folders)) < len(folders):
        raise UsageError("a run is given twice")
    files = [read_run(run) for run in runs]
    path = _writable(out or (runs[0] if len(runs) == 1 else Path()) / REPORT_NAME)
    given = _given(shards, files)
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    # Not the folder's own lock: a run may be trained while a page is made of it.
    with Lock(path.with_name(f"{path.name}.{LOCK_NAME}"), guarded=path):
        write_whole(path, _page([*map(printable, names)], files, given).encode())
    return path


def _given(shards: Sequence[str], files: Sequence[RunFiles]) -> dict[str, ShardIndex]:
    """Sets that the user names, by their digests."""
    asked = {evaluated(run)[1] for run in files}
    given: dict[str, ShardIndex] = {}
    for location in shards:
        index = open_set(location)
        if index.digest not in asked:
            raise UsageError(f"{index.name}: no retrieval of these runs was on this set")
        given[index.digest] = index
    return given


def _page(names: Sequence[str], files: Sequence[RunFiles], given: Mapping[str, ShardIndex]) -> str:
    """The page of runs, as HTML."""
    clips: dict[str, str] = {}
    parts = [_run(each) for each in files]  # which leaves out what is damaged
    found, videos = galleries(files, clips, given=given)
    described = [
        {"name": name, **part, "gallery": shown}
        for name, part, shown in zip(names, parts, found, strict=True)
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
        except DAMAGED as error:
            files.problems.append(f"{name}: damaged ({error!r:.300}); it is left out.")
            return None

    def picture(name: str) -> str | None:
        """A picture of the run."""
        try:
            data = read_inside(files.folder, name, PICTURE_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            files.problems.append(f"{name}: {error.strerror}; it is left out.")
            return None
        return part(name, picture_uri, data) if data else None

    results = []
    for kind, classes in zip(RESULTS, ({}, {}, files.per_class), strict=True):
        found = part(f"{kind}/{kind}.json", result_table, files.results.get(kind), kind, classes)
        if found is None:
            files.results.pop(kind, None)  # for all that is made of it
        results.append(found)
    results.append(part("test/mean.json", spread_table, files.spread))
    return {
        **facts(files),
        "headline": part("results.json", headline, files.comparison),
        "results": [result for result in results if result],
        "confusion": picture("test/confusion.png"),
        "views": picture("samples/views.png"),
        "config": files.config,
        "plan": files.plan,
        "problems": files.problems,
    }
