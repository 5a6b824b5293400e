"""Facts, comparison and results as words and figures; pure functions to JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from sce_video.report.inputs import RunFiles

_STATES = {
    "done": "finished",
    "running": "running when this page was written",
    "interrupted": "interrupted, can be resumed",
    "failed": "failed",
}
_SHORT = 12  # digits of a sha256 that are shown


def percent(share: float) -> str:
    """A share in [0,1] as percent with one decimal."""
    return f"{100 * share:.1f} %"


def facts(files: RunFiles) -> dict[str, Any]:
    """Title, state and key figures of a run."""
    status, config = files.status or {}, _config(files.config)
    clip, model = config.get("clip", {}), config.get("model", {})
    step = files.metrics[-1]["step"] if files.metrics else status.get("step")
    pairs = [
        ("Trunk", _joined(model.get("trunk"), _with("width", model.get("width")))),
        ("Objective", config.get("objective", {}).get("name")),
        ("Clip", _clip(clip)),
        ("Steps", f"{step:,}" if step is not None else None),
        ("R@1", _share(files.retrieval, "R@1")),
        ("mAP", _share(files.retrieval, "mAP")),
        ("kNN", _share(files.knn, "top1")),
    ]
    state = status.get("state")
    return {
        "title": files.folder.resolve().name,
        "state": state,
        "subtitle": _joined(
            _STATES.get(state or "", state), f"{files.written:%-d %B %Y, %H:%M} UTC"
        ),
        "facts": [[name, value] for name, value in pairs if value],
    }


def headline(results: Mapping[str, Any]) -> dict[str, Any]:
    """``results.json`` for the page: cells as text, the best marked, bars of R@1.

    A column whose values all lie in [0,1] is shown in percent. Bars show column ``R@1``, or the
    first column that is a share.
    """
    columns: list[str] = results["columns"]
    rows: list[dict[str, Any]] = results["rows"]
    cells = {column: _cells([row.get(column) for row in rows]) for column in columns}
    shares = [column for column in columns if _are_shares([row.get(column) for row in rows])]
    barred = "R@1" if "R@1" in shares else next(iter(shares), None)
    return {
        "title": results["title"],
        "columns": columns,
        "rows": [
            {"name": row["name"], "cells": [cells[column][i] for column in columns]}
            for i, row in enumerate(rows)
        ],
        "bars": None if barred is None else _bars(barred, rows),
        "notes": results.get("notes", []),
    }


def retrieval_table(summary: Mapping[str, Any]) -> dict[str, Any]:
    """``retrieval.json`` for the page: the figures, and the protocol in words."""
    names = [name for name in summary if name.startswith("R@")]
    figures = [[name, percent(summary[name])] for name in [*names, "mAP"] if name in summary]
    meaning = [
        ["R@k", "share of queries with a video of their own class among the k nearest"],
        ["mAP", "mean over the queries of the average precision of the whole ranking"],
    ]
    return {"figures": figures, "protocol": [*meaning, *_protocol(summary)], **_missing(summary)}


def knn_table(summary: Mapping[str, Any]) -> dict[str, Any]:
    """``knn.json`` for the page, like :func:`retrieval_table`."""
    protocol = summary.get("protocol", {})
    votes = f"the {protocol.get('k')} nearest bank videos vote for their class"
    if "votes" in protocol:
        votes += f", weighted by {protocol['votes']}, temp {protocol.get('temp')}"
    return {
        "figures": [["Top-1 accuracy", percent(summary["top1"])]],
        "protocol": [["kNN", votes], *_protocol(summary)],
        **_missing(summary),
    }


def _protocol(summary: Mapping[str, Any]) -> list[list[str]]:
    """What was compared and how, as pairs of a term and a sentence."""
    p: Mapping[str, Any] = summary.get("protocol", {})
    absent = ", ".join(
        f"{count:,} {reason}" for reason, count in p.get("not_in_shards", {}).items()
    )
    pairs = [
        ("Queries", f"{summary['samples']:,} videos of {p.get('queries')}"),
        ("Bank", f"{summary['bank_samples']:,} videos of {p.get('bank')}"),
        ("Views", _views(p)),
        ("Features", p.get("features")),
        ("Similarity", p.get("similarity")),
        ("Encoder", _joined(p.get("encoder"), _digest(p.get("encoder_sha256")))),
        (
            "Data",
            _joined(
                p.get("dataset"), p.get("shards"), _digest(p.get("manifest_sha256"), "manifest ")
            ),
        ),
        ("Not in the shards", absent and f"{absent} (listed by the data set, never compared)"),
    ]
    return [[name, str(value)] for name, value in pairs if value]


def _missing(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Videos that could not be read, counted in words and listed."""
    count = summary.get("missing", 0)
    text = (
        "Every video of both lists was read."
        if not count
        else (
            f"{count:,} video{'s' if count > 1 else ''} could not be read and "
            f"{'are' if count > 1 else 'is'} left out of the figures:"
        )
    )
    return {"missing": text, "missing_samples": summary.get("missing_samples", [])}


def _views(p: Mapping[str, Any]) -> str:
    frames, seconds, size = p.get("frames"), p.get("seconds"), p.get("size")
    clip = f"a clip is {frames} frames over {seconds:g} s" if frames and seconds else None
    return _joined(p.get("views"), clip, size and f"{size} x {size} pixels", separator="; ")


def _clip(clip: Mapping[str, Any] | None) -> str | None:
    if not clip or not {"frames", "seconds", "size"} <= clip.keys():  # none: images
        return None
    return f"{clip['frames']} frames, {clip['seconds']:g} s, {clip['size']} px"


def _config(text: str | None) -> dict[str, Any]:
    """The parsed configuration; a damaged one is still shown as text, so it is no error here."""
    try:
        config = yaml.safe_load(text or "")
    except yaml.YAMLError:
        return {}
    return config if isinstance(config, dict) else {}


def _share(summary: Mapping[str, Any] | None, key: str) -> str | None:
    return percent(summary[key]) if summary and key in summary else None


def _with(word: str, value: object) -> str | None:
    return None if value is None else f"{word} {value}"


def _digest(sha256: str | None, what: str = "") -> str | None:
    return f"{what}sha256 {sha256[:_SHORT]}…" if sha256 else None


def _joined(*parts: str | None, separator: str = " · ") -> str:
    return separator.join(str(part) for part in parts if part)


def _are_shares(values: Sequence[Any]) -> bool:
    given = [value for value in values if value is not None]
    return bool(given) and all(isinstance(v, float | int) and 0 <= v <= 1 for v in given)


def _cells(values: Sequence[Any]) -> list[dict[str, Any]]:
    """A column's values as text; the highest share is marked as best."""
    shares = _are_shares(values)
    best = max((v for v in values if v is not None), default=None) if shares else None
    return [
        {"text": _text(value, shares), "best": value is not None and value == best}
        for value in values
    ]


def _text(value: object, share: bool) -> str:
    if value is None:
        return "-"
    if isinstance(value, float | int):
        return (
            percent(value)
            if share
            else f"{value:,.4g}"
            if isinstance(value, float)
            else f"{value:,}"
        )
    return str(value)


def _bars(column: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    pairs = [(row["name"], row[column]) for row in rows if row.get(column) is not None]
    best = max(share for _, share in pairs)
    drawn = [
        {"name": name, "text": percent(share), "share": share, "best": share == best}
        for name, share in pairs
    ]
    return {"column": column, "rows": drawn}
