"""Lists of files: a csv with a header, or lines ``path label`` as most code for videos has them."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Record, Scan
from sce_video.shard.sources.listing import first_values, read_lines, read_table
from sce_video.shard.sources.scans import Placed, make_scan, nothing_found
from sce_video.shard.sources.tree import Tree, folders, mode_of, utf8
from sce_video.shardset import reasons
from sce_video.shardset.labels import class_name, number_classes
from sce_video.text import one_line
from sce_video.video.kinds import Media

Row = tuple[str, tuple[str, str | None]]
"""Path below the root; class name ("" = none) and split (None = the list has none)."""
_CSV = "--csv wants a first line path,label[,split]; lines 'path label' are for --list"
_LINE = re.compile(r"(.*[^ \t,])[ \t,]+(-?\d+)")
_MORE = re.compile(r".*[^ \t,][ \t,]+-?[\d.]+")  # a path that ends in another number
_SUFFIX = re.compile(r"\.(?=\d*[A-Za-z])[A-Za-z0-9]{2,5}[\"']?$")
_SPLIT = re.compile(r"([A-Za-z0-9_-]+)=(.+)")
CURE = "add them to the list"


def scan_lists(tree: Tree, options: Options) -> Scan:
    """Scan of what ``--csv`` or ``--list`` name.

    Raises:
        UsageError: a list is not there or not as it should be, none of its files is below the
            root, or both videos and images are.
    """
    if options.csv is not None and options.lists:
        raise UsageError("--csv and --list: give one of them")
    if options.csv is not None:
        name, read = str(options.csv), _read_csv(tree, options.csv, unlabelled=options.unlabelled)
    else:
        name, read = " ".join(options.lists), _read_lists(tree, options)
    rows, conflicting = first_values(read)
    values = {split for _, split in rows.values()}
    has_splits = values != {None} and bool(rows)
    if options.splits and not has_splits:
        cure = "a column 'split'" if options.csv else "lists with names: --list train=FILE val=FILE"
        raise UsageError(f"{name}: --split needs {cure}")
    for split in options.splits:
        if split not in values:
            raise UsageError(f"{name}: no split '{split}' in it")
    found, missing = _find(tree, rows, options)
    media = _media_of(tree, [file for file, *_ in found], name, missing)
    labels = number_classes(label for label, _ in rows.values() if label)
    left_out = {reasons.MISSING: missing, reasons.TWICE: conflicting}
    columns = ["split"] if has_splits else []
    return make_scan(tree, media, found, labels, columns, left_out, CURE)


def _find(
    tree: Tree, rows: Mapping[str, tuple[str, str | None]], options: Options
) -> tuple[list[Placed], list[str]]:
    """Listed files that are there, and paths of those that are not."""
    known = {file.path: file for file in tree.files}
    found: list[Placed] = []
    missing = []
    for path, (label, split) in rows.items():
        file = known.get(path)
        if options.splits and split not in options.splits:
            tree.used.add(path)
            continue
        source = tree.root / path
        if file is None and stat.S_ISREG(mode_of(source)):  # a hidden one, or below a link
            file = Record(path, source, source.stat().st_size)
        if file is None:
            missing.append(path)
        else:
            found.append((file, label, {"split": split} if split else {}))
    return found, missing


def _media_of(tree: Tree, files: list[Record], name: str, missing: list[str]) -> Media:
    """The one kind of media that is listed.

    Raises:
        UsageError: there is none, or both.
    """
    examples: dict[Media, str] = {}
    for file in files:
        if file.media is not None:
            examples.setdefault(file.media, file.path)
    if len(examples) > 1:
        raise UsageError(
            f"{name}: videos and images in one list ({', '.join(sorted(examples.values()))}); "
            "shard them apart"
        )
    if examples:
        return next(iter(examples))
    first = f" (such as {missing[0]!r})" if missing else ""
    raise nothing_found(tree, files, f"videos or images that {name} lists{first}")


def _read_csv(tree: Tree, path: Path, *, unlabelled: bool) -> Iterator[Row]:
    """Rows of ``--csv``."""
    tree.use(_existing(path, "--csv"))
    columns = ("path",) if unlabelled else ("path", "label")
    for line, row in read_table(path, columns, _CSV):
        label = None if unlabelled else class_name(row["label"])
        split = one_line(row["split"].strip()) if "split" in row else None
        yield _below(tree, row["path"], f"{path}, line {line}"), (label or "", split)


def _read_lists(tree: Tree, options: Options) -> Iterator[Row]:
    """Lines of every ``--list``."""
    splits: dict[str | None, Path] = {}
    for value in options.lists:
        match = None if stat.S_ISREG(mode_of(Path(value))) else _SPLIT.fullmatch(value)
        split, path = (match[1], Path(match[2])) if match else (None, Path(value))
        if splits.setdefault(split, path) is not path or (None in splits and len(splits) > 1):
            raise UsageError(f"--list {value}: name each split once: --list train=FILE val=FILE")
    for split, path in splits.items():
        rows = []
        for number, line in enumerate(read_lines(tree.use(_existing(path, "--list"))), start=1):
            where = f"{path}, line {number}"
            name, label = _read_line(line, where, unlabelled=options.unlabelled)
            rows.append((_below(tree, name, where), label))
        within = _folder_of(tree, path, [name for name, _ in rows])
        yield from ((f"{within}{name}", (label, split)) for name, label in rows)


def _folder_of(tree: Tree, path: Path, names: list[str]) -> str:
    """The folder that a list's paths begin in, with its ``/``: the root, else the one of it.

    Raises:
        UsageError: there are several.
    """
    known = {file.path for file in tree.files}
    if any(name in known or stat.S_ISREG(mode_of(tree.root / name)) for name in names):
        return ""
    tops = [f"{utf8(folder.name)}/" for folder in folders(tree.root)]
    within = [top for top in tops if any(f"{top}{name}" in known for name in names)]
    if len(within) > 1:
        raise UsageError(
            f"{path}: {names[0]!r} and so on lie in {within[0]!r} and {within[1]!r}; give one of "
            "them as --root"
        )
    return within[0] if within else ""


def _read_line(line: str, where: str, *, unlabelled: bool) -> tuple[str, str]:
    """Path and class of ``path label``; the path may hold blanks, the label is a number.

    Raises:
        UsageError: there is no label, or more than that.
    """
    match = _LINE.fullmatch(line)
    if match is None and not unlabelled:
        raise UsageError(
            f"{where}: '{line}' is no 'path label' with a whole number as label; a list with "
            "a header or class names is for --csv, one without labels needs --unlabelled"
        )
    path = match[1] if match else line
    if match and not _SUFFIX.search(path) and _MORE.fullmatch(path):
        raise UsageError(
            f"{where}: '{line}' has more than a path and one label; lists of frame folders, of "
            "several labels and of parts of videos are not read: write 'path label' of whole files"
        )
    label = None if unlabelled or match is None else class_name(match[2])
    if path[:1] == path[-1:] and path[0] in "\"'":
        path = path[1:-1]
    return path, label or ""


def _below(tree: Tree, name: str, where: str) -> str:
    """Path below the root, as :func:`utf8` has it; an absolute one is made so.

    Raises:
        UsageError: it does not lie there.
    """
    path = PurePosixPath(name)
    if path.is_absolute():
        for root in tree.roots:
            if path.is_relative_to(root):
                path = path.relative_to(root)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise UsageError(f"{where}: '{name}' is not below the root {tree.root}")
    return utf8(str(path))


def _existing(path: Path, flag: str) -> Path:
    if not stat.S_ISREG(mode_of(path)):
        raise UsageError(f"{flag} {path}: no such file")
    return path
