"""Metrics as series to draw; pure functions to JSON values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

POINTS = 300  # of a curve at most; more steps are averaged in stretches of equal length
_LARGEST = 1e300

_LOSS = "train/loss"
_EPOCH = "train/epoch"
_ONLINE = "eval/"
_ONLINE_MEANS = "measured during training"
# Series in the order they are shown, with title and meaning; unknown ones follow by name.
_SERIES = {
    _LOSS: ("Loss", "what training minimises"),
    "train/infonce": ("InfoNCE part", "how well a clip finds its own other view"),
    "train/relational": ("Relational part", "how well it copies the target's similarities"),
    "train/ceiling": ("Ceiling part", "pull away from the positive by the relational part"),
    "train/target_entropy": ("Target entropy", "nats; low: the target is nearly one-hot"),
    "train/positive": ("Similarity to the positive", "mean cosine; rises as training succeeds"),
    "train/negative": ("Similarity to the others", "mean cosine; near 0 when spread out"),
    "train/neighbour": ("Similarity to neighbours", "mean cosine to the key's nearest"),
    "train/top1": ("Top-1 in the batch", "clips nearest to their other view, or classed right"),
    "train/embedding_std": ("Embedding spread", "near 0 means collapse"),
    "train/grad_norm": ("Gradient norm", "of all weights, before clipping"),
    "train/lr": ("Learning rate", "of the optimizer"),
    "train/momentum": ("Momentum", "of the target network"),
    "train/bad_samples": ("Bad samples", "so far, replaced by the next"),
    "time/step": ("Time per step", "seconds"),
    "time/data": ("Waiting for data", "seconds per step"),
    "time/data_cpu": ("Loading, CPU time", "seconds so far"),
}

# Step, mean, lowest, highest; None where no value is finite.
Point = tuple[float, float | None, float | None, float | None]


def curves(runs: Sequence[Sequence[dict[str, float]]]) -> dict[str, Any] | None:
    """The loss, the other series that change, and the ones that do not; None without a row.

    Args:
        runs: rows of each; a figure draws a line a run that has its series.
    """
    present = {key for rows in runs for row in rows for key in row} - {"step", _EPOCH}
    keys = [key for key in _SERIES if key in present] + sorted(present - _SERIES.keys())
    loss, others, constant = None, [], []
    for key in sorted(keys, key=lambda key: not key.startswith(_ONLINE)):
        found = [[(r["step"], r[key]) for r in rows if _is_number(r.get(key))] for rows in runs]
        title, about = _SERIES.get(key, (key, _ONLINE_MEANS if key.startswith(_ONLINE) else ""))
        lines = [{"run": i, "points": thin(line)} for i, line in enumerate(found) if line]
        series = {"title": title, "about": about, "lines": lines}
        values = {value for line in found for _, value in line}
        if key == _LOSS and lines:
            loss = series
        elif len(values) > 1:
            others.append(series)
        elif values:
            value = values.pop()
            constant.append([title, value if math.isfinite(value) else None])
    if not present:
        return None
    return {
        "loss": loss,
        "others": others,
        "constant": constant,
        "steps_per_epoch": [_steps_per_epoch(rows) for rows in runs],
        "thinned": any(len(rows) > POINTS for rows in runs),
    }


def thin(values: Sequence[tuple[float, float]], points: int = POINTS) -> list[Point]:
    """At most ``points`` of a series: equal stretches with their mean, lowest and highest.

    Args:
        values: ``(step, value)`` by ascending step; values that are not finite leave a gap, and
            so do those of 1e300 and more, between which there is no scale.
        points: how many to keep.
    """
    count = min(points, len(values))
    edges = [i * len(values) // count for i in range(count + 1)]
    result: list[Point] = []
    for begin, end in pairwise(edges):
        step = values[(begin + end - 1) // 2][0]
        finite = [value for _, value in values[begin:end] if abs(value) < _LARGEST]
        if finite:
            mean = math.fsum(finite) / len(finite)
            result.append((step, _short(mean), _short(min(finite)), _short(max(finite))))
        else:
            result.append((step, None, None, None))
    return result


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _steps_per_epoch(rows: Sequence[dict[str, float]]) -> float | None:
    pairs = [(row["step"], row[_EPOCH]) for row in rows if row.get(_EPOCH)]
    return pairs[-1][0] / pairs[-1][1] if pairs else None
