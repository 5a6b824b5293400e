"""Kinetics-400/600/700 as the CVD foundation distributes them, or as class folders.

``ROOT/SPLIT/ID_START_END.mp4`` with ``ROOT/annotations/SPLIT.csv`` and ``ROOT/replacement/``, or
``ROOT/SPLIT/CLASS/*.mp4``. Labels number the sorted class names over all lists, so they depend
neither on the files that are present nor on the splits taken.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Record, Scan
from sce_video.shard.sources.listing import (
    Found,
    Gather,
    by_path,
    files,
    folders,
    number,
    read_lines,
)

SPLITS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
"""Split -> names that folders and lists of the releases give it."""


@dataclass(frozen=True)
class _Split:
    """One split: its folder, and its list (file stem -> class name, "" = none) if it has one."""

    name: str
    folder: Path
    """May be absent."""
    listed: dict[str, str] | None
    conflicting: tuple[str, ...]

    @property
    def class_folders(self) -> list[Path]:
        return folders(self.folder) if self.folder.is_dir() else []


def scan(name: str, root: Path, options: Options) -> Scan:
    """List a Kinetics root.

    Raises:
        UsageError: neither lists nor class folders, or a split that is not there.
    """
    splits = [_open_split(root, split) for split in SPLITS]
    present = [
        split for split in splits if split.folder.is_dir() and (split.listed or split.class_folders)
    ]
    if unknown := [wanted for wanted in options.splits if wanted not in SPLITS]:
        raise UsageError(f"{name}: no split '{unknown[0]}'; it has {', '.join(SPLITS)}")
    absent = set(options.splits) - {split.name for split in present}
    if absent or not present:
        lacking = min(absent, default="train")
        raise UsageError(
            f"{root}: expected {lacking}/*.mp4 with annotations/{lacking}.csv, "
            f"or class folders {lacking}/CLASS/*.mp4"
        )
    labels = _labels(root, splits)
    gather = Gather("video")
    replacement = root / "replacement"
    spare = gather.take(files(replacement, root, deep=True)) if replacement.is_dir() else []
    replaced = {file.stem: file for file in spare}
    records: dict[str, Record] = {}
    missing: list[str] = []
    taken = [split for split in present if not options.splits or split.name in options.splits]
    for split in taken:
        records |= _take(split, root, labels, replaced, gather, missing)
    other_splits = {stem for split in splits if split not in taken for stem in split.listed or ()}
    left = [file for file in gather.found if file.path not in records]
    superseded = {f.path for f in left if f.stem in replaced and replaced[f.stem].path in records}
    spare_paths = {file.path for file in spare}
    unlisted = [
        file.path
        for file in left
        if file.path not in superseded
        and not (file.path in spare_paths and file.stem in other_splits)
    ]
    return Scan(
        media="video",
        records=by_path(records.values()),
        classes=tuple(labels),
        columns=("split",),
        missing=tuple(sorted(missing)),
        unlisted=tuple(sorted(unlisted + gather.other)),
        conflicting=tuple(sorted(path for split in taken for path in split.conflicting)),
        replaced=tuple(sorted(superseded)),
    )


def _open_split(root: Path, split: str) -> _Split:
    names = SPLITS[split]
    found = [root / name for name in names if (root / name).is_dir()]
    lists = [path for name in names if (path := root / "annotations" / f"{name}.csv").is_file()]
    listed, conflicting = _read_csv(lists[0]) if lists else (None, ())
    return _Split(split, found[0] if found else root / split, listed, conflicting)


def _read_csv(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    listed: dict[str, str] = {}
    conflicting: list[str] = []
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream)
        needed = {"youtube_id", "time_start", "time_end"}
        if lacking := sorted(needed - set(rows.fieldnames or ())):
            raise UsageError(f"{path}: no column '{lacking[0]}'")
        for row in rows:
            try:
                start, end = (int(float(row[column])) for column in ("time_start", "time_end"))
            except (TypeError, ValueError) as error:
                raise UsageError(f"{path}, line {rows.line_num}: times must be seconds") from error
            stem = f"{row['youtube_id']}_{start:06d}_{end:06d}"
            label = (row.get("label") or "").strip()
            if listed.setdefault(stem, label) != label:
                conflicting.append(f"{path.stem}/{stem}.mp4")
    return listed, tuple(conflicting)


def _labels(root: Path, splits: list[_Split]) -> dict[str, int]:
    """Class name -> label over the label map and all lists, else over the class folders."""
    names = {line for path in _label_maps(root) for line in read_lines(path)}
    names |= {label for split in splits for label in (split.listed or {}).values() if label}
    if not names:
        names = {folder.name for split in splits for folder in split.class_folders}
    return number(names)


def _label_maps(root: Path) -> list[Path]:
    return sorted((root / "annotations").glob("label_map*.txt"))


def _take(
    split: _Split,
    root: Path,
    labels: dict[str, int],
    replaced: dict[str, Found],
    gather: Gather,
    missing: list[str],
) -> dict[str, Record]:
    """Records of one split by path; appends what its list names in vain to ``missing``."""
    records: dict[str, Record] = {}
    present = {file.stem: file for file in gather.take(files(split.folder, root))}
    for folder in split.class_folders:
        label = _folder_label(folder, labels)
        for file in gather.take(files(folder, root)):
            present[file.stem] = file
            records[file.path] = file.record(label, {"split": split.name})
    for stem, name in (split.listed or {}).items():
        # The replacements are re-cut versions of clips whose first release is damaged.
        original = present.get(stem)
        found = replaced.get(stem, original)
        if found is None:
            missing.append(f"{split.folder.name}/{stem}.mp4")
            continue
        label = labels.get(name, -1)
        if original is not None:
            by_folder = records.pop(original.path, None)
            label = label if by_folder is None else by_folder.label
        records[found.path] = found.record(label, {"split": split.name})
    return records


def _folder_label(folder: Path, labels: dict[str, int]) -> int:
    """Label of a class folder; some releases write blanks as underscores."""
    for name in (folder.name, folder.name.replace("_", " ")):
        if name in labels:
            return labels[name]
    raise UsageError(f"{folder}: no such class in the lists under annotations/")
