"""Kinetics-400/600/700 as the CVD foundation distributes them, or as class folders.

``ROOT/SPLIT/ID_START_END.mp4`` with ``ROOT/annotations/SPLIT.csv`` and ``ROOT/replacement/``, or
``ROOT/SPLIT/CLASS/*.mp4``; in place of files also the archives they come in, there or where the
foundation's downloader puts them. Labels number the sorted class names over all lists, so they
depend neither on the files that are present nor on the splits taken; with ``--classes`` they
number the names given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Record, Scan
from sce_video.shard.sources.archive import unpacked
from sce_video.shard.sources.listing import (
    TWICE,
    Placed,
    check_splits,
    files,
    first_values,
    folders,
    make_scan,
    number_names,
    read_lines,
    read_table,
)

SPLITS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
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
    places: list[Path]
    """Folders of the root or what stands for it; a later one counts before an earlier."""
    listed: dict[str, str]
    conflicting: list[str]  # stems listed again with another class

    @cached_property
    def files(self) -> list[Record]:
        """Files and members of archives, as if unpacked."""
        return _unpacked(self.places)

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
        folder = self.places[-1].name if self.places else self.name
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
    downloads = [root / f"{base}{end}" for base in DOWNLOADS[name] for end in ("_targz", "")]
    tops = [top for top in (*downloads, root) if top.is_dir()]
    splits = [_open_split(tops, split) for split in SPLITS]
    taken = [s for s in splits if (s.name in options.splits if options.splits else s.present)]
    if absent := [s.name for s in taken if not s.present] or ([] if taken else ["train"]):
        raise UsageError(
            f"{root}: expected {absent[0]}/*.mp4 or *.tar.gz with annotations/{absent[0]}.csv, "
            f"or class folders {absent[0]}/CLASS/*.mp4"
        )
    classes, chosen = _classes(tops, splits, options.classes)
    extra = _unpacked(_places(tops, ("replacement",)), deep=True)
    repaired = {file.stem: file for file in extra if file.media == "video"}
    elsewhere = {stem for split in splits if split not in taken for stem in split.listed}
    others = [file for file in extra if file.media != "video" or file.stem not in elsewhere]
    found: dict[str, Placed] = {file.path: (file, None, {}) for file in others}
    missing: list[str] = []
    conflicting: list[str] = []
    for split in taken:
        wanted = {stem for stem, label in split.listed.items() if label in chosen}
        conflicting += [split.path(stem) for stem in wanted.intersection(split.conflicting)]
        own, lost = _match(split, classes, repaired)
        missing += [split.path(stem) for stem in lost & wanted]
        found |= own
    samples, replaced = _settle(found, repaired, chosen)
    left_out = {"missing": missing, TWICE: conflicting, "replaced": replaced}
    return make_scan("video", samples, number_names(chosen - {""}), ["split"], left_out)


def _places(tops: Iterable[Path], names: Iterable[str]) -> list[Path]:
    return [place for top in tops for name in names if (place := top / name).is_dir()]


def _unpacked(places: Iterable[Path], *, deep: bool = False) -> list[Record]:
    """Files below the places, to the class folders or ``deep``, archives as if unpacked."""
    return unpacked(
        file
        for place in places
        for folder in (place, *([] if deep else folders(place)))
        for file in files(folder, place.parent, deep=deep)
    )


def _open_split(tops: Sequence[Path], split: str) -> _Split:
    lists = [
        path
        for top in reversed(tops)
        for name in SPLITS[split]
        for end in ("csv", "txt")  # Kinetics-600 has them as .txt
        if (path := top / "annotations" / f"{name}.{end}").is_file()
    ]
    listed = first_values(_read_csv(lists[0]) if lists else ())
    return _Split(split, _places(tops, SPLITS[split]), *listed)


def _read_csv(path: Path) -> Iterator[tuple[str, str]]:
    """File stem and class name of each line."""
    for line, row in read_table(path, COLUMNS, "expected a Kinetics list"):
        try:
            start, end = (int(float(row[column])) for column in COLUMNS[1:])
        except ValueError as error:
            raise UsageError(f"{path}, line {line}: times must be seconds") from error
        yield f"{row[COLUMNS[0]]}_{start:06d}_{end:06d}", row.get("label", "").strip()


def _classes(
    tops: Sequence[Path], splits: list[_Split], only: Path | None
) -> tuple[set[str], set[str]]:
    """Classes in the label map and all lists, else of the class folders; and those to take.

    With ``only`` these are the names in that file; else all, and ``""``, which is no class.
    """
    maps = [path for top in tops for path in (top / "annotations").glob("label_map*.txt")]
    names = {line for path in maps for line in read_lines(path)}
    names |= {label for split in splits for label in split.listed.values() if label}
    if not names:
        names = {name for split in splits for name in split.classes}
    if only is None:
        return names, {"", *names}
    chosen = set()
    if not (listed := read_lines(only)):
        raise UsageError(f"{only}: no class names in it")
    for name in listed:
        if (known := _known(name, names)) is None:
            raise UsageError(f"{only}: the data set has no class '{name}'")
        chosen.add(known)
    return names, chosen


def _known(name: str, names: Collection[str]) -> str | None:
    """The class that ``name`` means; some releases write blanks as underscores."""
    spellings = (name, name.replace("_", " "), name.replace(" ", "_"))
    return next((spelling for spelling in spellings if spelling in names), None)


def _match(
    split: _Split, classes: Collection[str], repaired: Mapping[str, Record]
) -> tuple[dict[str, Placed], set[str]]:
    """Files of one split with their classes, by path, and stems that its list names in vain."""
    column = {"split": split.name}
    found: dict[str, Placed] = {}
    present: dict[str, Record] = {}
    for file in split.files:
        name = None
        if file.media == "video":
            present[file.stem] = file
            if (folder := _class_folder(file)) and (name := _known(folder, classes)) is None:
                where = f"{file.source.parent if file.offset is None else file.source}: {folder}"
                raise UsageError(f"{where}: no such class in the lists under annotations/")
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
) -> tuple[list[Placed], list[str]]:
    """Files but for those of classes not ``chosen``, and originals in whose place others came."""
    samples, replaced = [], []
    for path, sample in found.items():
        file, name, _ = instead = sample
        if name is None and file.media == "video" and file.stem in repaired:
            instead = found.get(repaired[file.stem].path, sample)
        if (taken := instead[1]) is not None and taken not in chosen:
            continue
        if taken == name:
            samples.append(sample)
        else:
            replaced.append(path)
    return samples, replaced


def _class_folder(file: Record) -> str:
    """Name of the class folder that a file of a split lies in, or nothing."""
    parts = file.path.split("/")
    return parts[1] if len(parts) > 2 else ""
