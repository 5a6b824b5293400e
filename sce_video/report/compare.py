"""Several runs side by side: a column a run; pure functions to JSON values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sce_video.config.load import flat
from sce_video.report.inputs import RESULTS, RunFiles
from sce_video.report.tables import cells, comparable, facts, figures, heading


def compare(names: Sequence[str], runs: Sequence[RunFiles]) -> dict[str, Any]:
    """Facts and figures, and in what the configurations differ, of runs that have one.

    The best figure of a row is marked where all runs that have one were measured alike; what
    differs in the protocols is said.
    """
    told = [facts(run) for run in runs]
    known = [dict(each["facts"]) for each in told]
    states = [" · ".join(filter(None, (each["subtitle"], each["last"]))) for each in told]
    rows = [_row("State", states)]
    rows += [_row(name, [each.get(name, "-") for each in known]) for name in _keys(known)]
    notes = []
    for kind, about in RESULTS.items():
        results = [run.results.get(kind) for run in runs]
        measured = [result for result in results if result]
        unlike = _differing([comparable(result) | _counts(result) for result in measured])
        if unlike:
            texts = "; ".join(f"{key}: {' / '.join(values)}" for key, values in unlike.items())
            notes.append(f"{about}: measured in different ways, so no best is marked ({texts}).")
        elif measured:
            notes.append(heading(measured[0], kind))
        given = [figures(result, kind) for result in results]
        for name in _keys(given):
            values = [each.get(name) for each in given]
            mark = not unlike and len(set(values) - {None}) > 1
            rows.append({"name": name, "cells": cells(values, mark=mark)})
    configured = [pair for pair in zip(names, runs, strict=True) if pair[1].config is not None]
    differences = _differing([flat(run.settings) for _, run in configured])
    differences.pop("run.dir", None)
    return {
        "columns": list(names),
        "rows": rows,
        "notes": notes,
        "configured": [name for name, _ in configured],
        "differences": [_row(key, texts) for key, texts in differences.items()],
    }


def _row(name: str, texts: Iterable[str]) -> dict[str, Any]:
    return {"name": name, "cells": [{"text": text} for text in texts]}


def _keys(given: Iterable[Mapping[str, object]]) -> list[str]:
    """The keys of all, each once, in the order of their first appearance."""
    return list(dict.fromkeys(key for each in given for key in each))


def _differing(given: Sequence[Mapping[str, object]]) -> dict[str, list[str]]:
    """The keys whose values are not the same in all, and these as text; "-" where there is none."""
    texts = {key: [str(each.get(key, "-")) for each in given] for key in _keys(given)}
    return {key: values for key, values in texts.items() if len(set(values)) > 1}


def _counts(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {key: summary[key] for key in ("samples", "bank_samples") if key in summary}
