"""UCF101: ``UCF-101/CLASS/*.avi`` and ``ucfTrainTestlist/``; columns split1..3, train or test.

Transcoded videos (another suffix) are those that the lists mean.
"""

from __future__ import annotations

from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Scan
from sce_video.shard.sources.listing import listed_videos, read_lines
from sce_video.shard.sources.scans import nothing_found
from sce_video.shard.sources.tree import Tree, walk

EXPECTED = "UCF-101/CLASS/*.avi and ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt"


def scan(name: str, root: Path, options: Options) -> Scan:
    """List a UCF101 root.

    Raises:
        UsageError: the videos or the lists are not there.
    """
    lists = root / "ucfTrainTestlist"
    tree = walk(root, options)
    if not (lists / "classInd.txt").is_file():
        raise nothing_found(tree, tree.files, EXPECTED)
    labels = _read_classes(tree.use(lists / "classInd.txt"))
    splits = _read_splits(tree, lists)
    listed = (path for lines in splits.values() for path, _ in lines)
    if unknown := sorted({path.split("/")[-2] for path in listed} - labels.keys()):
        raise UsageError(f"{lists / 'classInd.txt'}: no class '{unknown[0]}'")
    return listed_videos(tree, "UCF-101/", splits, labels, EXPECTED)


def _read_classes(path: Path) -> dict[str, int]:
    """Class name -> label, in their order; the file counts from 1."""
    try:
        pairs = [line.split() for line in read_lines(path)]
        labels = {name: int(number) - 1 for number, name in pairs}
    except ValueError as error:
        raise UsageError(f"{path}: expected lines '1 ApplyEyeMakeup'") from error
    if sorted(labels.values()) != list(range(len(labels))):
        raise UsageError(f"{path}: class numbers must count from 1 without a gap")
    return dict(sorted(labels.items(), key=lambda item: item[1]))


def _read_splits(tree: Tree, lists: Path) -> dict[str, list[tuple[str, str]]]:
    """Column -> (path, value) of each line in its two lists."""
    splits = {}
    for number in (1, 2, 3):
        paths = {value: lists / f"{value}list{number:02d}.txt" for value in ("train", "test")}
        if all(path.is_file() for path in paths.values()):
            splits[f"split{number}"] = [
                (f"UCF-101/{line.split()[0]}", value)  # a train line ends in its class number
                for value, path in paths.items()
                for line in read_lines(tree.use(path))
            ]
    return splits
