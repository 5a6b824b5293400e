"""A folder that was taken for a shard set: what it holds instead, and the way out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sce_video.shardset.manifest import JOURNAL_NAME, MANIFEST_NAME, PLAN_NAME
from sce_video.video.kinds import SUFFIXES

_MOST = 1000  # files that are looked at in a folder
_SHOWN = 3  # names in a message
_REMAINS = (PLAN_NAME, JOURNAL_NAME, "index.parquet")  # of a conversion, as it goes


def way_out(folder: Path, command: str) -> str:
    """The end of a message that ``folder`` holds no manifest: what to do, by what lies there.

    Args:
        folder: there or not.
        command: what makes a shard set in it.
    """
    make = f"make one: {command}"
    if not os.path.lexists(folder):  # False for any odd name, too
        return make
    if folder.is_file():
        inside = (folder.parent / MANIFEST_NAME).is_file()
        return f"it is a file; give {f'its folder {folder.parent}' if inside else 'a folder'}"
    files = list(_files(folder))
    sets = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST_NAME}"))
    tars = sum(path.suffix == ".tar" for path in files)
    if sets:
        more = ", ..." if len(sets) > _SHOWN else ""
        named = ", ".join(sets[:_SHOWN]) + more
        return f"but sets below it: {named}; give one of them, such as {folder / sets[0]}"
    if any(path.name in _REMAINS for path in files):
        return f"but one that is not finished, or has lost it; run its command again: {command}"
    if tars:
        count = "a tar" if tars == 1 else f"{tars:,}{' or more' * (len(files) == _MOST)} tars"
        return (
            f"but {count} without an index: pretrain on '{folder}/*.tar' (with data.split=null "
            f"data.epoch_samples=N), or {_make('webdataset', folder)}"
        )
    deep = islice((path for child in files if child.is_dir() for path in _files(child)), _MOST)
    suffixes = {path.suffix.lower() for path in (*files, *deep)}
    for kind, known in SUFFIXES.items():
        if suffixes & {*known}:
            return f"but {kind}s: {_make('folder', folder)}"
    if folder.is_dir() and not files:
        return f"it is empty; {make}"
    return make


def _make(source: str, root: Path) -> str:
    return f"make one of them: python -m sce_video.shard {source} --root {root} --out shards/NAME"


def _files(folder: Path) -> Iterator[Path]:
    """Some of the files and folders in a folder; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            yield from (Path(entry.path) for entry in islice(entries, _MOST))
    except OSError:
        return
