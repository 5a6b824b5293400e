"""UCF101: ``UCF-101/CLASS/*.avi`` and ``ucfTrainTestlist/``; columns split1..3, train or test."""

from __future__ import annotations

from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Scan
from sce_video.shard.sources.listing import Gather, files, folders, listed_videos, read_lines

EXPECTED = "expected UCF-101/CLASS/*.avi and ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt"


def scan(name: str, root: Path, options: Options) -> Scan:
    """List a UCF101 root.

    Raises:
        UsageError: the videos or the lists are not there.
    """
    videos, lists = root / "UCF-101", root / "ucfTrainTestlist"
    if not videos.is_dir() or not (lists / "classInd.txt").is_file():
        raise UsageError(f"{root}: {EXPECTED}")
    labels = _read_classes(lists / "classInd.txt")
    listed, columns, conflicting = _read_splits(lists)
    gather = Gather("video", other=[file.path for file in files(videos, root)])
    for folder in folders(videos):
        gather.take(files(folder, root))
    present = {file.path: file for file in gather.found}
    if not present:
        raise UsageError(f"{root}: {EXPECTED}")
    if unknown := sorted({path.split("/")[-2] for path in listed} - labels.keys()):
        raise UsageError(f"{lists / 'classInd.txt'}: no class '{unknown[0]}'")
    return listed_videos(
        present,
        listed,
        dict(sorted(labels.items(), key=lambda item: item[1])),
        columns=columns,
        unlisted=gather.other,
        conflicting=conflicting,
    )


def _read_classes(path: Path) -> dict[str, int]:
    """Class name -> label; the file counts from 1."""
    try:
        pairs = [line.split() for line in read_lines(path)]
        labels = {name: int(number) - 1 for number, name in pairs}
    except ValueError as error:
        raise UsageError(f"{path}: expected lines '1 ApplyEyeMakeup'") from error
    if sorted(labels.values()) != list(range(len(labels))):
        raise UsageError(f"{path}: class numbers must count from 1 without a gap")
    return labels


def _read_splits(
    lists: Path,
) -> tuple[dict[str, dict[str, str]], tuple[str, ...], tuple[str, ...]]:
    """Path -> column -> value; the columns; what is in both lists of one split."""
    listed: dict[str, dict[str, str]] = {}
    columns, conflicting = [], []
    for number in (1, 2, 3):
        paths = {value: lists / f"{value}list{number:02d}.txt" for value in ("train", "test")}
        if not all(path.is_file() for path in paths.values()):
            continue
        column = f"split{number}"
        columns.append(column)
        for value, path in paths.items():
            for line in read_lines(path):
                video = f"UCF-101/{line.split()[0]}"  # a train line ends in its class number
                if listed.setdefault(video, {}).setdefault(column, value) != value:
                    conflicting.append(video)
    if not columns:
        raise UsageError(f"{lists.parent}: {EXPECTED}")
    return listed, tuple(columns), tuple(sorted(conflicting))
