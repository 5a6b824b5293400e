"""Queries and their nearest videos: which are shown, and their clips."""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sce_video.errors import SceVideoError
from sce_video.progress import Progress
from sce_video.report.inputs import DAMAGED, RESULT_FILES, RunFiles
from sce_video.report.thumbnails import LARGE, SMALL, thumbnail
from sce_video.shardset.index import ShardIndex
from sce_video.stream.reader import ShardReader, open_set
from sce_video.stream.remote.files import on_this_machine
from sce_video.stream.watch import sample_limit

QUERIES = 500  # shown of a run at most
NEAREST = 5  # videos of a query
CLIP_BYTES = 8_000_000  # of all clips in base64: a page that can be mailed and opened on a phone
_LARGE_BYTES = 20_000  # of a large clip in base64, about


class _Set:
    """A shard set that was evaluated."""

    def __init__(self, number: int, index: ShardIndex) -> None:
        self.number, self.reader = number, ShardReader(index)
        self.labels: list[int] = index.numbers("label").tolist()
        self.classes, self.paths = index.strings("class"), index.strings("path")
        # Queries of the run before: runs on the same set show the same ones.
        self.chosen: list[int] = []

    def same_class(self, a: int, b: int) -> bool:
        """Whether two rows have a class, the same."""
        return self.labels[a] == self.labels[b] >= 0


def galleries(
    runs: Sequence[RunFiles],
    clips: dict[str, str],
    limit: int = CLIP_BYTES,
    given: Mapping[str, ShardIndex] = MappingProxyType({}),
) -> tuple[list[dict[str, Any] | None], dict[str, dict[str, Any]]]:
    """The gallery of each run as JSON values (None without a retrieval result), and its videos.

    A video is named ``SET:ROW``, the same for all runs that were evaluated on the same shards.
    All queries that are shown come with their words; their clips come first, with those of their
    nearest, then those of all second ones, and so on until ``limit``.

    Args:
        runs: to be shown.
        clips: receives video -> mp4 in base64.
        limit: characters of base64 of all clips.
        given: sets by their digests, wherever the runs say that these lie.
    """
    sets: dict[str, _Set] = {}  # by digest, in the order of their numbers
    shown = [_gallery(files, sets, given) for files in runs]
    ordered = list(dict.fromkeys(_by_rank([g.get("queries", []) for g in shown if g])))
    numbered = list(sets.values())
    size = LARGE if len(ordered) * _LARGE_BYTES <= limit else SMALL
    videos: dict[str, dict[str, Any]] = {}
    used = 0
    with Progress(len(ordered), "clip") as bar:
        for done, video in enumerate(ordered, 1):
            number, row = map(int, video.split(":"))
            source = numbered[number]
            videos[video] = {"class": source.classes[row] or "no class", "path": source.paths[row]}
            if used >= limit:
                continue
            try:
                media = source.reader.media(row)
                with sample_limit(source.reader.name(row)):
                    data = thumbnail(media, source.reader.video(row), size)
            except SceVideoError as error:
                videos[video] |= {"error": str(error), "name": source.reader.name(row)}
                continue
            clip = base64.b64encode(data).decode()
            used += len(clip)
            if used <= limit:
                clips[video] = clip
            bar.update(done)
    for gallery in shown:
        if gallery and "queries" in gallery:
            gallery["note"] = _note(gallery, videos, clips)
    return shown, videos


def _by_rank(shown: Sequence[Sequence[dict[str, Any]]]) -> Iterator[str]:
    """Videos of the queries of all runs: the queries and their nearest, the second nearest, ..."""
    for place in range(NEAREST):
        for query in filter(None, chain.from_iterable(zip_longest(*shown))):
            if place == 0:
                yield query["video"]
            yield from (near["video"] for near in query["near"][place : place + 1])


def evaluated(files: RunFiles) -> tuple[str, str]:
    """Where the set of a run's retrieval lay, and its digest; "" where that is not said."""
    protocol = files.results.get("retrieval", {}).get("protocol")
    told = protocol if isinstance(protocol, dict) else {}
    where, digest = (told.get(name) for name in ("shards", "manifest_sha256"))
    return where if isinstance(where, str) else "", digest if isinstance(digest, str) else ""


def _gallery(
    files: RunFiles, sets: dict[str, _Set], given: Mapping[str, ShardIndex]
) -> dict[str, Any] | None:
    """Queries of a run, or what is wrong."""
    if "retrieval" not in files.results:
        return None
    if files.neighbours is None:
        return {"problem": "The videos cannot be shown: there is no retrieval/neighbours.json."}
    try:
        index, problem = _open(files.folder, *evaluated(files), given)
        return {"problem": problem} if index is None else _queries(files.neighbours, index, sets)
    except DAMAGED as error:
        told = f"neighbours.json is damaged ({error!r:.300})"
        return {"problem": f"The videos cannot be shown: {told}."}


def _queries(
    found: Sequence[dict[str, Any]], index: ShardIndex, sets: dict[str, _Set]
) -> dict[str, Any]:
    for query in found:
        for row in (query["query"], *query["nearest"]):
            if type(row) is not int or not 0 <= row < len(index):
                raise IndexError(f"no row {row!r} in {len(index):,} rows")
    if index.digest not in sets:
        sets[index.digest] = _Set(len(sets), index)
    source = sets[index.digest]
    places = {q["query"]: i for i, q in enumerate(found)}
    order = [places[row] for row in source.chosen if row in places]
    right = [source.same_class(q["query"], q["nearest"][0]) for q in found]
    order = order or choose([source.labels[q["query"]] for q in found], right, QUERIES)
    source.chosen[:] = [found[i]["query"] for i in order]
    return {"queries": [_entry(found[i], source) for i in order], "total": len(found)}


def choose(classes: Sequence[int], right: Sequence[bool], limit: int) -> list[int]:
    """Positions of at most ``limit`` queries, even over classes and over right and wrong.

    Any beginning of the result is even too: classes take turns, widely spaced ones first, and
    each gives of the kind (right or wrong) that was taken less so far, if it has one left.

    Args:
        classes: of each query.
        right: whether each query's nearest video is of its class.
        limit: how many at most.
    """
    names = sorted(set(classes))
    waiting = {(name, kind): deque[int]() for name in names for kind in (True, False)}
    for position, (name, kind) in enumerate(zip(classes, right, strict=True)):
        waiting[name, bool(kind)].append(position)
    turns = deque(sorted(names, key=lambda name: _spread(names.index(name))))
    chosen: list[int] = []
    taken = {True: 0, False: 0}
    while turns and len(chosen) < limit:
        name = turns.popleft()
        kind = taken[True] <= taken[False]
        kind = kind if waiting[name, kind] else not kind
        if waiting[name, kind]:
            chosen.append(waiting[name, kind].popleft())
            taken[kind] += 1
            turns.append(name)
    return chosen


def _spread(number: int) -> float:
    """Van der Corput's sequence: sorting by it visits a range evenly from coarse to fine."""
    return int(f"{number:032b}"[::-1], 2) / 2**32


def _open(
    run: Path, where: str, digest: str, given: Mapping[str, ShardIndex]
) -> tuple[ShardIndex | None, str]:
    """The shard set that was evaluated, or a sentence why it cannot be shown.

    A folder that the run names is any of this machine, but shown only if its manifest is the one
    whose sha256 the run has: whoever made the run knew that set.
    """
    if digest in given:
        return given[digest], ""
    if not where:
        return None, "The videos cannot be shown: retrieval.json names no set."
    folder = Path(where)
    inside = run / folder.name  # a run that was moved together with its shards
    try:
        hint = "give it yourself by --shards URL, and make the page again"
        on_this_machine(where, RESULT_FILES["retrieval"], hint)
        index = open_set(str(inside) if inside.is_dir() and not folder.is_dir() else where)
    except SceVideoError as error:
        if folder.is_dir() or "://" in where:
            return None, f"The videos cannot be shown. {error}"
        return None, (
            f"The videos cannot be shown: there are no shards in {folder} any more, seen from the "
            "folder where this page was made. Put them back there and make the page again."
        )
    if index.digest != digest:
        return None, (
            f"The videos cannot be shown: {where} holds other shards now than the ones "
            "that were evaluated. Evaluate again, then make the page again."
        )
    return index, ""


def _entry(query: dict[str, Any], source: _Set) -> dict[str, Any]:
    row, number = query["query"], source.number
    pairs = zip(query["nearest"][:NEAREST], query["scores"][:NEAREST], strict=True)
    near = [
        {"video": f"{number}:{n}", "score": _finite(s), "right": source.same_class(row, n)}
        for n, s in pairs
    ]
    return {"video": f"{number}:{row}", "near": near}


def _finite(score: float) -> float:
    if not math.isfinite(score):
        raise ValueError(f"a score of {score}")
    return float(score)


def _note(gallery: dict[str, Any], videos: dict[str, dict[str, Any]], clips: dict[str, str]) -> str:
    """What a reader must know of the choice; empty where everything is there."""
    queries, total = gallery["queries"], gallery["total"]
    own = dict.fromkeys(_by_rank([queries]))
    broken = sum("error" in videos[video] for video in own)
    without = sum(video not in clips for video in own) - broken
    notes = []
    if len(queries) < total:
        notes.append(
            f"{len(queries):,} of {total:,} queries, chosen evenly over the classes and over right "
            "and wrong: the share of right ones here is not the accuracy."
        )
    if without:
        notes.append(
            f"{without:,} of {len(own):,} videos are named without their clip, which would make "
            "this page too large."
        )
    if broken:
        notes.append(f"{broken:,} video{'s' if broken > 1 else ''} could not be decoded.")
    return " ".join(notes)
