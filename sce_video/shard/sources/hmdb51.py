"""HMDB51: ``CLASS/*.avi`` and ``testTrainMulti_7030_splits/``; columns split1..3, train or test.

A list line is ``name.avi FLAG `` (flag 1 train, 2 test, 0 unused in this split). Names hold
brackets, ``!``, ``#``, ``;`` and so on, never a blank.
"""

from __future__ import annotations

import re
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Scan
from sce_video.shard.sources.listing import (
    Gather,
    files,
    folders,
    listed_videos,
    number,
    read_lines,
)

LISTS = "testTrainMulti_7030_splits"
EXPECTED = f"expected CLASS/*.avi and {LISTS}/CLASS_test_split1.txt"
_LIST_NAME = re.compile(r"(.+)_test_split([123])\.txt")
_VALUES = {"0": None, "1": "train", "2": "test"}


def scan(name: str, root: Path, options: Options) -> Scan:
    """List an HMDB51 root.

    Raises:
        UsageError: the videos or the lists are not there.
    """
    lists = root / LISTS
    if not lists.is_dir():
        raise UsageError(f"{root}: {EXPECTED}")
    listed, columns, conflicting = _read_splits(lists)
    labels = number(path.partition("/")[0] for path in listed)
    gather = Gather("video", other=[file.path for file in files(root, root)])
    for folder in folders(root):
        if folder != lists:
            gather.take(files(folder, root))
    present = {file.path: file for file in gather.found}
    if not listed or not present:
        raise UsageError(f"{root}: {EXPECTED}")
    return listed_videos(
        present,
        listed,
        labels,
        columns=columns,
        unlisted=gather.other,
        conflicting=conflicting,
    )


def _read_splits(
    lists: Path,
) -> tuple[dict[str, dict[str, str]], tuple[str, ...], tuple[str, ...]]:
    """``CLASS/name.avi`` -> column -> value; the columns; what a split lists with two flags."""
    flags: dict[tuple[str, str], str] = {}
    listed: dict[str, dict[str, str]] = {}
    conflicting = set()
    for path in sorted(lists.iterdir()):
        match = _LIST_NAME.fullmatch(path.name)
        if match is None:
            continue
        column = f"split{match[2]}"
        for line in read_lines(path):
            name, _, flag = line.rpartition(" ")
            if flag not in _VALUES or not name:
                raise UsageError(f"{path}: expected 'name.avi 0|1|2', got '{line}'")
            video = f"{match[1]}/{name.strip()}"
            splits = listed.setdefault(video, {})
            if flags.setdefault((video, column), flag) != flag:
                conflicting.add(video)
            elif value := _VALUES[flag]:
                splits[column] = value
    columns = sorted({column for _, column in flags})
    return listed, tuple(columns), tuple(sorted(conflicting))
