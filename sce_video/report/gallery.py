"""Queries and their nearest videos: which are shown, and their clips."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sce_video.errors import SceVideoError
from sce_video.progress import Progress
from sce_video.report.inputs import RunFiles
from sce_video.report.thumbnails import thumbnail
from sce_video.shard.format import ShardIndex
from sce_video.stream.shards import ShardReader, open_set

QUERIES = 60
"""Queries shown at most."""
NEAREST = 5
CLIP_BYTES = 7_000_000
"""Of all clips in base64: a page stays small enough to mail and to open on a phone."""


def gallery(
    files: RunFiles, clips: dict[int, str], budget: int = CLIP_BYTES
) -> dict[str, Any] | None:
    """The gallery of a run: JSON values, or None without a retrieval result.

    Args:
        files: of the run.
        clips: receives row -> mp4 in base64, each video once.
        budget: characters of base64 that end the choice of queries.
    """
    if files.retrieval is None or files.neighbours is None:
        return None
    index, problem = _open(files.folder, files.retrieval.get("protocol", {}))
    if index is None:
        return {"problem": problem}
    labels = index.numbers("label").tolist()
    found = files.neighbours
    right = [_same(labels, q["query"], q["nearest"][0]) for q in found]
    order = choose([labels[q["query"]] for q in found], right, QUERIES)
    shown, videos = _add_clips(ShardReader(index), [found[i] for i in order], clips, budget)
    classes, paths = index.strings("class"), index.strings("path")
    for row, video in videos.items():
        video.update({"class": classes[row] or "no class", "path": paths[row]})
    return {
        "queries": [_entry(query, labels) for query in shown],
        "videos": videos,
        "note": _note(len(shown), len(found), sum("error" in v for v in videos.values())),
    }


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


def _open(run: Path, protocol: dict[str, Any]) -> tuple[ShardIndex | None, str]:
    """The shard set that was evaluated, or a sentence why it cannot be shown."""
    where = protocol.get("shards", "")
    folder = Path(where)
    inside = run / folder.name  # a run that was moved together with its shards
    try:
        index = open_set(str(inside) if inside.is_dir() and not folder.is_dir() else where)
    except SceVideoError as error:
        if folder.is_dir() or "://" in where:
            return None, f"The videos cannot be shown. {error}"
        return None, (
            f"The videos cannot be shown: there are no shards in {folder} any more, seen from the "
            "folder where this page was made. Put them back there and make the page again."
        )
    if index.digest != protocol.get("manifest_sha256"):
        return None, (
            f"The videos cannot be shown: {where} holds other shards now than the ones "
            "that were evaluated. Evaluate again, then make the page again."
        )
    return index, ""


def _add_clips(
    reader: ShardReader, queries: Sequence[dict[str, Any]], clips: dict[int, str], budget: int
) -> tuple[list[dict[str, Any]], dict[int, dict[str, Any]]]:
    """Encode the videos of ``queries`` until the budget is spent; the queries that got in."""
    shown: list[dict[str, Any]] = []
    videos: dict[int, dict[str, Any]] = {}
    used = 0
    with Progress(len(queries), "query") as bar:
        for query in queries:
            rows = dict.fromkeys([query["query"], *query["nearest"][:NEAREST]])
            made = {row: _clip(reader, row) for row in rows if row not in videos}
            used += sum(len(clip) for clip, _ in made.values())
            if used > budget:
                break
            for row, (clip, error) in made.items():
                videos[row] = {"name": reader.name(row), **({"error": error} if error else {})}
                if clip:
                    clips[row] = clip
            shown.append(query)
            bar.update(len(shown))
    return shown, videos


def _clip(reader: ShardReader, row: int) -> tuple[str, str | None]:
    """A row's clip in base64, or the reason why there is none."""
    try:
        data = thumbnail(reader.media(row), reader.video(row))
    except SceVideoError as error:
        return "", str(error)
    return base64.b64encode(data).decode(), None


def _same(labels: Sequence[int], a: int, b: int) -> bool:
    return labels[a] == labels[b] and labels[a] >= 0


def _entry(query: dict[str, Any], labels: Sequence[int]) -> dict[str, Any]:
    row = query["query"]
    pairs = zip(query["nearest"][:NEAREST], query["scores"][:NEAREST], strict=True)
    near = [{"row": n, "score": s, "right": _same(labels, row, n)} for n, s in pairs]
    return {"row": row, "near": near}


def _note(shown: int, total: int, broken: int) -> str:
    """What a reader must know of the choice; empty where everything is there."""
    notes = []
    if shown < total:
        notes.append(
            f"{shown:,} of {total:,} queries, chosen evenly over the classes and over right and "
            "wrong: the share of right ones here is not the accuracy."
        )
    if broken:
        notes.append(f"{broken:,} video{'s' if broken > 1 else ''} could not be decoded.")
    return " ".join(notes)
