"""Kinetics-400/600/700 as the CVD foundation distributes them, or as class folders.

``ROOT/SPLIT/ID_START_END.mp4`` with ``ROOT/annotations/SPLIT.csv`` and ``ROOT/replacement/``, or
``ROOT/SPLIT/CLASS/*.mp4``; in place of files also the archives they come in, there or where the
foundation's downloader puts them. Labels number the sorted class names over all lists, so they
depend neither on the files that are present nor on the splits taken; with ``--classes`` they
number the names given. Class folders and ``--classes`` mean the class of the lists with the same
letters and digits: torchvision writes names without ``'()`` and blanks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Record, Scan
from sce_video.shard.sources.archive import is_archive, unpacked
from sce_video.shard.sources.class_names import ClassNames
from sce_video.shard.sources.listing import (
    check_splits,
    first_values,
    number_names,
    read_lines,
    read_table,
)
from sce_video.shard.sources.scans import Placed, make_scan, nothing_found
from sce_video.shard.sources.tree import Tree, walk
from sce_video.shardset.reasons import MISSING, REPLACED, TWICE

SPLITS = {
    "train": ("train", "train_256", "videos_train"),
    "val": ("val", "validate", "validation", "val_256", "videos_val"),
    "test": ("test", "test_256", "videos_test"),
}
"""Split -> names that folders and lists of the releases give it."""
DOWNLOADS = {
    "kinetics200": ("k400",),
    "kinetics400": ("k400",),
    "kinetics600": ("k600",),
    "kinetics700": ("k700-2020", "k700_2020"),
}
"""Folders of the foundation's downloader; its archives lie in ``NAME_targz``."""
COLUMNS = ("youtube_id", "time_start", "time_end")


@dataclass(frozen=True)
class _Split:
    """One split: its folders, and its list (file stem -> class name, "" = none) if it has one."""

    name: str
    tree: Tree
    places: list[str]
    """Paths of its folders, each with its ``/``; a later one counts before an earlier."""
    listed: dict[str, str]
    conflicting: list[str]  # stems listed again with another class

    @cached_property
    def files(self) -> list[Record]:
        """Files and members of archives, as if unpacked."""
        return _unpacked(self.tree, self.places)

    @cached_property
    def classes(self) -> set[str]:
        """Names of the class folders."""
        return {name for file in self.files if (name := _class_folder(file))}

    @property
    def present(self) -> bool:
        """Whether there is enough to take it."""
        return bool(self.places) and bool(self.listed or self.classes)

    def path(self, stem: str) -> str:
        """Where a listed file should be."""
        folder = self.places[-1].split("/")[-2] if self.places else self.name
        return f"{folder}/{stem}.mp4"


def scan(name: str, root: Path, options: Options) -> Scan:
    """List a Kinetics root.

    Raises:
        UsageError: neither lists nor class folders, a split that is not there, an archive that is
            damaged, or wrong ``--classes``.
    """
    check_splits(name, options.splits, SPLITS)
    if name == "kinetics200" and options.classes is None:
        raise UsageError(f"{name} needs --classes FILE: its class names, one a line")
    tops = [f"{base}{end}/" for base in DOWNLOADS[name] for end in ("_targz", "")]
    tops = [top for top in (*tops, "") if (root / top).is_dir()]
    tree, splits = _open_splits(root, tops, options)
    taken = [s for s in splits if (s.name in options.splits if options.splits else s.present)]
    if absent := [s.name for s in taken if not s.present] or ([] if taken else ["train"]):
        expected = (
            f"{absent[0]}/*.mp4 or *.tar.gz with annotations/{absent[0]}.csv, "
            f"or class folders {absent[0]}/CLASS/*.mp4"
        )
        raise nothing_found(tree, tree.files, expected)
    classes, chosen = _classes(tree, tops, splits, options.classes)
    extra = _unpacked(tree, _places(root, tops, ("replacement",)))
    repaired = {file.stem: file for file in extra if file.media == "video"}
    not_taken = [split for split in splits if options.splits and split not in taken]
    elsewhere = {stem for split in not_taken for stem in split.listed}
    others = [file for file in extra if file.media != "video" or file.stem not in elsewhere]
    found: dict[str, Placed] = {file.path: (file, None, {}) for file in others}
    not_asked = {id(file.source) for file in extra} - {id(file.source) for file in others}
    not_asked |= {id(file.source) for split in not_taken for file in split.files}
    missing: list[str] = []
    conflicting: list[str] = []
    for split in taken:
        wanted = {stem for stem, label in split.listed.items() if label in chosen}
        conflicting += [split.path(stem) for stem in wanted.intersection(split.conflicting)]
        own, lost = _match(split, classes, repaired)
        missing += [split.path(stem) for stem in lost & wanted]
        found |= own
    samples, replaced, not_chosen = _settle(found, repaired, chosen)
    not_asked |= {id(file.source) for file in (*not_chosen, *replaced)}
    tree.used |= {file.path for file in tree.files if id(file.source) in not_asked}
    left_out = {MISSING: missing, TWICE: conflicting, REPLACED: [file.path for file in replaced]}
    return make_scan(tree, "video", samples, number_names(chosen - {""}), ["split"], left_out)


def _places(root: Path, tops: Iterable[str], names: Iterable[str]) -> list[str]:
    """Paths of the folders of these names that are there, each with its ``/``."""
    paths = [f"{top}{name}/" for top in tops for name in names]
    return [path for path in paths if (root / path).is_dir()]


def _unpacked(tree: Tree, places: Iterable[str]) -> list[Record]:
    """Files below the places as if these lay in the root, archives as if unpacked."""
    files = []
    for place in places:
        top = place[: place.rstrip("/").rfind("/") + 1]
        own = tree.below(place)
        tree.used |= {file.path for file in own if is_archive(file)}
        files += [replace(file, path=file.path.removeprefix(top)) for file in own]
    return unpacked(files)


def _lists(root: Path, tops: Sequence[str], names: Iterable[str]) -> list[Path]:
    """Lists of a split, the one that counts first; Kinetics-600 has them as .txt."""
    places = [root / top / "annotations" for top in reversed(tops)]
    ends = ("csv", "txt")
    paths = [place / f"{name}.{end}" for place in places for name in names for end in ends]
    return [path for path in paths if path.is_file()]


def _open_splits(
    root: Path, tops: Sequence[str], options: Options
) -> tuple[Tree, tuple[_Split, ...]]:
    """What lies below the root, and all splits; those not asked for without files, if possible."""
    lists = {split: _lists(root, tops, names) for split, names in SPLITS.items()}
    places = {split: _split_places(root, tops, names) for split, names in SPLITS.items()}
    others = [s for s in SPLITS if options.splits and s not in options.splits]
    # Without lists their class folders tell the classes.
    without = [place.rstrip("/") for s in others if any(lists.values()) for place in places[s]]
    tree = walk(root, options, without=without)
    listed = {s: _read_csv(tree.use(paths[0])) if paths else () for s, paths in lists.items()}
    return tree, tuple(_Split(s, tree, places[s], *first_values(listed[s])) for s in SPLITS)


def _split_places(root: Path, tops: Iterable[str], names: Iterable[str]) -> list[str]:
    """The folder of a split in each of ``tops``: the first of these names with anything in it."""
    found = [_places(root, [top], names) for top in tops]
    filled = [[path for path in paths if any((root / path).iterdir())] for paths in found]
    return [place for own, paths in zip(filled, found, strict=True) for place in (own or paths)[:1]]


def _read_csv(path: Path) -> Iterator[tuple[str, str]]:
    """File stem and class name of each line."""
    for line, row in read_table(path, COLUMNS, "expected a Kinetics list"):
        try:
            start, end = (int(float(row[column])) for column in COLUMNS[1:])
        except (ValueError, OverflowError) as error:  # infinite
            raise UsageError(f"{path}, line {line}: times must be seconds") from error
        yield f"{row[COLUMNS[0]]}_{start:06d}_{end:06d}", row.get("label", "").strip()


def _classes(
    tree: Tree, tops: Sequence[str], splits: Sequence[_Split], only: Path | None
) -> tuple[ClassNames, set[str]]:
    """Classes in the label map and all lists, else of the class folders; and those to take.

    With ``only`` these are the names in that file; else all, and ``""``, which is no class.
    """
    places = [tree.root / top / "annotations" for top in tops]
    maps = [path for place in places for path in sorted(place.glob("label_map*.txt"))]
    names = {line for path in maps for line in read_lines(tree.use(path))}
    names |= {label for split in splits for label in split.listed.values() if label}
    if names:
        known = ClassNames(names)
    else:
        known = ClassNames({name for split in splits for name in split.classes})
        if alike := known.alike():
            raise UsageError(
                f"{tree.root}: are class folders '{alike[0]}' and '{alike[1]}' one class? Name "
                "them alike, or put annotations/label_map.txt there, one class name a line"
            )
    if only is None:
        return known, {"", *known.names}
    chosen = set()
    if not (listed := read_lines(tree.use(only))):
        raise UsageError(f"{only}: no class names in it")
    for name in listed:
        if (meant := known.find(name, only)) is None:
            raise UsageError(f"{only}: the data set has no class '{name}'")
        chosen.add(meant)
    return known, chosen


def _match(
    split: _Split, classes: ClassNames, repaired: Mapping[str, Record]
) -> tuple[dict[str, Placed], set[str]]:
    """Files of one split with their classes, by path, and stems that its list names in vain."""
    column = {"split": split.name}
    found: dict[str, Placed] = {}
    present: dict[str, Record] = {}
    known: dict[str, str | None] = {"": None}  # class folder -> its class
    for file in split.files:
        name = None
        if file.media == "video":
            present[file.stem] = file
            if (folder := _class_folder(file)) not in known:
                where = file.source.parent if file.offset is None else file.source
                known[folder] = classes.find(folder, where)
                if known[folder] is None:
                    what = f"{folder}: no such class in the lists under annotations/"
                    raise UsageError(f"{where}: {what}")
            name = known[folder]
        found[file.path] = (file, name, column)
    # The replacements are re-cut versions of clips whose first release is damaged.
    for stem, taken in {**present, **repaired}.items():
        if (listed := split.listed.get(stem)) is not None:
            original = present.get(stem, taken)
            _, by_folder, _ = found.get(original.path, (original, None, column))
            found[original.path] = (original, None, column)
            found[taken.path] = (taken, by_folder or listed, column)
    return found, split.listed.keys() - present.keys() - repaired.keys()


def _settle(
    found: Mapping[str, Placed], repaired: Mapping[str, Record], chosen: Collection[str]
) -> tuple[list[Placed], list[Record], list[Record]]:
    """Samples and what has no class, originals in whose place others came, files not ``chosen``."""
    samples, replaced, others = [], [], []
    for sample in found.values():
        file, name, _ = instead = sample
        if name is None and file.media == "video" and file.stem in repaired:
            instead = found.get(repaired[file.stem].path, sample)
        if (taken := instead[1]) is not None and taken not in chosen:
            others.append(file)
        elif taken == name:
            samples.append(sample)
        else:
            replaced.append(file)
    return samples, replaced, others


def _class_folder(file: Record) -> str:
    """Name of the class folder that a file of a split lies in, or nothing."""
    parts = file.path.split("/")
    return parts[1] if len(parts) > 2 else ""
