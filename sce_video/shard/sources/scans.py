"""A scan put together: each file below the root is a sample, or is left out with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sce_video.errors import UsageError
from sce_video.shard.sources import ARCHIVES, Record, Scan
from sce_video.shard.sources.tree import Tree
from sce_video.shardset import reasons
from sce_video.video.kinds import NOT_READ, Media

Placed = tuple[Record, str | None, Mapping[str, str]]
"""A file, the name of its class ("" = none; None = it is in no list or class folder), its splits.
"""
READ: Mapping[Media, str] = {
    "video": "MP4, MOV, Matroska, WebM, AVI and MPEG",
    "image": "JPEG and PNG",
}
APART = "shard them apart as 'folder'"
"""The way out for videos or images that lie beside a data set of others."""


def make_scan(
    tree: Tree,
    media: Media,
    files: Iterable[Placed],
    labels: Mapping[str, int],
    columns: Iterable[str] = (),
    left_out: Mapping[str, Iterable[str]] | None = None,
    cure: str = APART,
) -> Scan:
    """The scan of ``files``; all else in ``tree`` is left out, each with its reason.

    Args:
        tree: what lies below the root.
        media: what counts as a sample.
        files: of several with one path the last counts.
        labels: class name -> label, in their order; a class that is not there has the label -1.
        columns: split columns.
        left_out: reason -> paths, in any order; they are told even where a file is there.
        cure: what to do for media that have no place in the data set.
    """
    records: dict[str, Record] = {}
    others: dict[str, Record] = {}
    seen: set[int] = set()  # sources by identity: they are handed on as they are, and many
    for file, name, splits in files:
        seen.add(id(file.source))
        if file.media == media and name is not None:
            records[file.path] = file.labelled(labels.get(name, -1), splits)
        else:
            others[file.path] = file
    said = {path for paths in (left_out or {}).values() for path in paths} | tree.used
    others |= {file.path: file for file in tree.files if id(file.source) not in seen}
    found: dict[str, list[str]] = {reasons.MISSING: []}
    for path, file in others.items():
        if path not in records and path not in said:
            found.setdefault(_reason(file, media), []).append(path)
    for reason, paths in [*tree.left_out.items(), *(left_out or {}).items()]:
        found.setdefault(reason, []).extend(paths)
    return Scan(
        media,
        tuple(records[path] for path in sorted(records)),
        tuple(labels),
        tuple(columns),
        tuple((path, reason) for reason, paths in found.items() for path in sorted(paths)),
        tuple(_notes(found, media, cure)),
    )


def _reason(file: Record, media: Media) -> str:
    """Why a file is no sample of a set of ``media``."""
    if file.size < 0:
        return reasons.IN_ARCHIVE
    if file.media == media:
        return reasons.ELSEWHERE
    if file.suffix in NOT_READ[media]:
        return reasons.NOT_READ[media]
    if file.kind is not None:
        return reasons.BESIDE[media]
    return reasons.ARCHIVE if file.suffix in ARCHIVES else reasons.NOT_MEDIA[media]


def _notes(found: Mapping[str, Sequence[str]], media: Media, cure: str) -> Iterator[str]:
    """The way out for media that are left out, a line a reason."""
    cures = {
        reasons.ELSEWHERE: cure,
        reasons.BESIDE[media]: APART,
        reasons.NOT_READ[media]: f"{READ[media]} are read",
        reasons.SAME_STEM: "keep one of each",
    }
    for reason, way in cures.items():
        if paths := found.get(reason):
            yield f"{len(paths):,} left out: {reason} (first {min(paths)!r}); {way}"


def nothing_found(tree: Tree, files: Iterable[Record], expected: str) -> UsageError:
    """The error that a layout is not there: what was expected, and what lies there instead.

    Args:
        tree: what lies below the root.
        files: those of it, or of its archives, that tell something.
        expected: the layout, in words.
    """
    found: dict[str, Counter[str]] = {}
    others = []
    for file in files:
        if file.media is not None:
            way = "elsewhere"
        elif file.suffix in NOT_READ["video"] | NOT_READ["image"]:
            way = f"not read: {READ[file.kind or 'video']} are; convert them"
        elif file.suffix in ARCHIVES:
            way = "packed"
        else:
            others.append(file.path)
            continue
        found.setdefault(way, Counter())[file.suffix] += 1
    hints = [
        f"{', '.join(f'{count:,} {suffix}' for suffix, count in counts.most_common(4))} ({way})"
        for way, counts in found.items()
    ]
    for reason, paths in tree.left_out.items():
        hints.append(f"{min(paths)!r}{' and more' * (len(paths) > 1)} ({reason})")
    if others and not hints:
        hints.append(f"{len(others):,} files of other names (first {min(others)!r})")
    told = "; found " * bool(hints) + ", ".join(hints)
    return UsageError(f"{tree.root}: expected {expected}{told}")
