"""Facts and results of a run as words and figures; pure functions to JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sce_video.config.load import flat
from sce_video.report.inputs import RESULTS, RunFiles
from sce_video.shardset.manifest import listed

_STATES = {
    "done": "finished",
    "running": "running when this page was written",
    "killed": "killed, can be resumed",
    "interrupted": "interrupted, can be resumed",
    "failed": "failed",
}
_LISTED = 1000  # missing samples that are named
_SHORT = 12  # digits of a sha256 that are shown
# What a protocol says of the run itself.
_OWN = ("encoder", "encoder_sha256", "encoder_seed", "classifier", "classifier_sha256")
FIGURES = {
    "retrieval": {"mAP": "mAP"},
    "knn": {"top1": "kNN top-1"},
    "test": {"top1": "Top-1", "top5": "Top-5", "mean_class_accuracy": "Mean class accuracy"},
}
_MEANING = {
    "retrieval": [
        ["R@k", "share of queries with a video of their own class among the k nearest"],
        ["mAP", "mean over the queries of the average precision of the whole ranking"],
    ],
    "test": [["Mean class accuracy", "mean over the classes of each one's top-1"]],
}


def percent(share: float) -> str:
    """A share in [0,1] as percent with one decimal."""
    return f"{100 * share:.1f} %"


def facts(files: RunFiles) -> dict[str, Any]:
    """State and key facts of a run."""
    status, config = files.status, files.settings
    model, objective = (_part(config, name) for name in ("model", "objective"))
    step = files.metrics[-1]["step"] if files.metrics else status.get("step")
    task = config.get("task")
    width = f"width {model['width']}" if model.get("width") is not None else None
    pairs = [
        ("Task", task if task != "pretrain" else None),
        ("Trunk", _joined(model.get("trunk"), width)),
        ("Objective", objective.get("name")),
        ("Clip", _clip(_part(config, "clip"))),
        ("Steps", f"{step:,}" if isinstance(step, int) else None),
        ("Checkpoint", status.get("checkpoint")),
    ]
    state = str(status.get("state", "unknown"))
    if state == "running" and not files.alive:
        state = "killed"
    ended = _STATES.get(state, "how it ended is unknown")
    if files.config is None and not status and not files.metrics:
        ended = "weights of others, not trained here"
    return {
        "state": state,
        "subtitle": _joined(ended, f"{_last_sign(files):%-d %B %Y, %H:%M} UTC"),
        "last": files.last if state != "done" else None,
        "facts": [[name, str(value)] for name, value in pairs if value],
    }


def _last_sign(files: RunFiles) -> datetime:
    """When the run last wrote its status; where it never did, when the newest file was written."""
    try:
        return datetime.fromisoformat(files.status["heartbeat"]).astimezone(UTC)
    except (KeyError, ValueError, TypeError, OverflowError):  # of a version before, or damaged
        return files.written


def headline(results: Mapping[str, Any]) -> dict[str, Any]:
    """``results.json`` for the page: cells as text, the best marked.

    A column whose values all lie in [0,1] is shown in percent.
    """
    rows: list[dict[str, Any]] = results["rows"]
    columns = [cells([row.get(column) for row in rows]) for column in results["columns"]]
    shown = [[column[i] for column in columns] for i in range(len(rows))]
    return {
        "title": str(results["title"]),
        "columns": [str(column) for column in results["columns"]],
        "rows": [{"name": str(r["name"]), "cells": c} for r, c in zip(rows, shown, strict=True)],
        "notes": [str(note) for note in results.get("notes", [])],
    }


def comparable(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree before figures are compared: the protocol, but for what is the run's own."""
    protocol = flat(summary.get("protocol"))
    return {key: value for key, value in protocol.items() if key not in _OWN}


def figures(summary: Mapping[str, Any] | None, kind: str) -> dict[str, float]:
    """The figures of a result by the name that is shown; shares in [0,1].

    R@k beyond the bank is left out: the whole bank is near there.
    """
    if not summary:
        return {}
    bank = summary.get("bank_samples")
    most = bank if isinstance(bank, int) else math.inf
    ranks = [n for n in summary if n.startswith("R@") and n[2:].isdecimal() and int(n[2:]) <= most]
    names = {name: name for name in ranks} | FIGURES[kind]
    return {text: summary[name] for name, text in names.items() if _is_share(summary.get(name))}


def result_table(
    summary: Mapping[str, Any], kind: str, per_class: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """A result for the page: the figures, the protocol in words, and the classes.

    Args:
        summary: content of the result's file.
        kind: of :data:`RESULTS`.
        per_class: figures of each class, where the summary has none.
    """
    return {
        "title": heading(summary, kind),
        "figures": [[name, percent(value)] for name, value in figures(summary, kind).items()],
        "protocol": [*_MEANING.get(kind, ()), *_protocol(summary)],
        **_missing(summary),
        "classes": _classes(summary.get("per_class") or per_class),
    }


def heading(summary: Mapping[str, Any], kind: str) -> str:
    """A result's name and what it was measured on, e.g. ``Test: ucf101, split1:test (3,783)``."""
    p = _part(summary, "protocol")
    queries = counted(p.get("queries") or p.get("split"), summary.get("samples"))
    bank = counted(p.get("bank"), summary.get("bank_samples"))
    lists = _joined(queries, bank, separator=" in ")
    where = _joined(p.get("dataset"), lists, separator=", ")
    return _joined(RESULTS[kind], where, separator=": ")


def counted(split: str | None, samples: object) -> str | None:
    """A list with its number of samples, where that is known: ``split1:test (3,783)``."""
    return f"{split} ({samples:,})" if split and isinstance(samples, int) else split


def _classes(classes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Columns and rows of a table of classes; numbers stay numbers, to sort by."""
    if not classes:
        return None
    columns = list(dict.fromkeys(name for row in classes.values() for name in row))
    shares = [any(isinstance(row.get(c), float) for row in classes.values()) for c in columns]
    rows = [[name, *(_finite(row.get(c)) for c in columns)] for name, row in classes.items()]
    return {"columns": columns, "shares": shares, "rows": rows}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _protocol(summary: Mapping[str, Any]) -> list[list[str]]:
    """What was compared and how, as pairs of a term and a sentence; nothing is left out."""
    p = {k: v for k, v in summary.get("protocol", {}).items() if v not in (None, "", {}, [])}
    take = p.pop
    absent = ", ".join(f"{count:,} {reason}" for reason, count in take("not_in_shards", {}).items())
    votes = None
    if "votes" in p:
        votes = (
            f"the {take('k', None)} nearest bank videos vote for their class, weighted by "
            f"{take('votes')}, temp {take('temp', None)}"
        )
    manifest = _digest(take("manifest_sha256", None), "manifest ")
    pairs = [
        ("Queries", _videos(summary, "samples", take("queries", None) or take("split", None))),
        ("Bank", _videos(summary, "bank_samples", take("bank", None))),
        ("kNN", votes),
        ("Views", _views(p)),
        ("Features", take("features", None)),
        ("Similarity", take("similarity", None)),
        ("Encoder", _joined(take("encoder", None), _digest(take("encoder_sha256", None)))),
        ("Data", _joined(take("dataset", None), str(take("shards", "")), manifest)),
        ("Not in the shards", absent and f"{absent} (of the whole data set, never compared)"),
        *((n, _digest(v) if n.endswith("sha256") else v) for n, v in p.items()),
    ]
    return [[name, str(value)] for name, value in pairs if value is not None and value != ""]


def _videos(summary: Mapping[str, Any], count: str, split: str | None) -> str:
    words = f"{summary[count]:,} videos" if count in summary else None
    return _joined(words, split, separator=" of ")


def _missing(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Videos that could not be read, or are not in the shards: counted in words, and listed."""
    count = summary.get("missing", 0)
    text = "Every video in the shards was read"
    if count:
        videos = f"{count:,} videos" if count > 1 else "1 video"
        text = f"{videos} could not be read and {_are(count)} left out of the figures"
    lost = sum(listed(_part(summary, "protocol").get("not_in_shards", {})).values())
    if lost:
        text += f"; {lost:,} of the lists {_are(lost)} not in the shards"
    lines = [str(line) for line in summary.get("missing_samples", [])]
    more = [f"... and {len(lines) - _LISTED:,} more"] * (len(lines) > _LISTED)
    return {"missing": f"{text}.", "missing_samples": lines[:_LISTED] + more}


def _are(count: int) -> str:
    return "are" if count > 1 else "is"


def _views(p: dict[str, Any]) -> str:
    frames, seconds, size = (p.pop(name, None) for name in ("frames", "seconds", "size"))
    clip = f"a clip is {frames} frames over {_short(seconds)} s" if frames and seconds else None
    return _joined(p.pop("views", None), clip, size and f"{size} x {size} pixels", separator="; ")


def _clip(clip: Mapping[str, Any]) -> str | None:
    if not {"frames", "seconds", "size"} <= clip.keys():  # none: images
        return None
    return f"{clip['frames']} frames, {_short(clip['seconds'])} s, {clip['size']} px"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a configuration, empty where there is none."""
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def _digest(sha256: str | None, what: str = "") -> str | None:
    return f"{what}sha256 {sha256[:_SHORT]}…" if sha256 else None


def _joined(*parts: str | None, separator: str = " · ") -> str:
    return separator.join(str(part) for part in parts if part)


def _is_share(value: object) -> bool:
    return isinstance(value, float | int) and 0 <= value <= 1


def cells(values: Sequence[Any], *, mark: bool = True) -> list[dict[str, Any]]:
    """A row's or a column's values as text, "-" for None; of shares the best is marked.

    Args:
        values: shown in percent if they are shares in [0,1], all of them.
        mark: whether they may be compared.
    """
    given = [value for value in values if value is not None]
    shares = bool(given) and all(map(_is_share, given))
    best = max(given) if shares and mark else None
    return [
        {"text": _text(value, shares), "best": value is not None and value == best}
        for value in values
    ]


def _text(value: object, share: bool) -> str:
    if value is None:
        return "-"
    if isinstance(value, float | int) and share:
        return percent(value)
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
