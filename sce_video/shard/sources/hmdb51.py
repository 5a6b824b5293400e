"""HMDB51: ``CLASS/*.avi`` and ``testTrainMulti_7030_splits/``; columns split1..3, train or test.

A list line is ``name.avi FLAG `` (flag 1 train, 2 test, 0 unused in this split). Names hold
brackets, ``!``, ``#``, ``;`` and so on, never a blank. Transcoded videos (another suffix) are those
that the lists mean.
"""

from __future__ import annotations

import re
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Scan
from sce_video.shard.sources.listing import listed_videos, number_names, read_lines
from sce_video.shard.sources.scans import nothing_found
from sce_video.shard.sources.tree import Tree, walk

LISTS = "testTrainMulti_7030_splits"
EXPECTED = f"CLASS/*.avi and {LISTS}/CLASS_test_split1.txt"
_LIST_NAME = re.compile(r"(.+)_test_split([123])\.txt")
_VALUES = {"0": "", "1": "train", "2": "test"}


def scan(name: str, root: Path, options: Options) -> Scan:
    """List an HMDB51 root.

    Raises:
        UsageError: the videos or the lists are not there.
    """
    lists = root / LISTS
    tree = walk(root, options)
    if not lists.is_dir():
        raise nothing_found(tree, tree.files, EXPECTED)
    splits = _read_splits(tree, lists)
    labels = number_names(path.partition("/")[0] for lines in splits.values() for path, _ in lines)
    return listed_videos(tree, "", splits, labels, EXPECTED)


def _read_splits(tree: Tree, lists: Path) -> dict[str, list[tuple[str, str]]]:
    """Column -> (``CLASS/name.avi``, value) of each line in the lists of its classes."""
    splits: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(lists.iterdir()):
        if (match := _LIST_NAME.fullmatch(path.name)) is None:
            continue
        for line in read_lines(tree.use(path)):
            name, _, flag = line.rpartition(" ")
            if flag not in _VALUES or not name:
                raise UsageError(f"{path}: expected 'name.avi 0|1|2', got '{line}'")
            video = f"{match[1]}/{name.strip()}"
            splits.setdefault(f"split{match[2]}", []).append((video, _VALUES[flag]))
    return dict(sorted(splits.items()))
