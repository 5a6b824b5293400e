"""Several runs side by side: a column a run; pure functions to JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sce_video.config import flat
from sce_video.report.inputs import RunFiles
from sce_video.report.tables import RESULTS, facts, figures, heading, parsed_config, percent

OWN = ("encoder", "encoder_sha256", "encoder_seed", "classifier", "classifier_sha256")
"""What a protocol says of the run itself; all else must agree before figures are compared."""


def compare(names: Sequence[str], runs: Sequence[RunFiles]) -> dict[str, Any]:
    """Facts and figures, and in what the configurations differ, of runs that have one.

    The best figure of a row is marked where all runs that have one were measured alike; what
    differs in the protocols is said.
    """
    told = [facts(run) for run in runs]
    known = [dict(each["facts"]) for each in told]
    states = [" · ".join(filter(None, (each["subtitle"], each["last"]))) for each in told]
    rows = [{"name": "State", "cells": [{"text": state} for state in states]}]
    for name in dict.fromkeys(name for each in known for name in each):
        cells = [{"text": each.get(name, "-")} for each in known]
        rows.append({"name": name, "cells": cells})
    notes = []
    for kind, about in RESULTS.items():
        given = [figures(run.results.get(kind), kind) for run in runs]
        differing = _protocols([run.results.get(kind) for run in runs])
        if differing:
            notes.append(
                f"{about}: measured in different ways, so no best is marked ({differing})."
            )
        else:
            measured = [found for run in runs if (found := run.results.get(kind))]
            notes += [heading(found, kind) for found in measured[:1]]
        for name in dict.fromkeys(name for each in given for name in each):
            rows.append({"name": name, "cells": _cells([g.get(name) for g in given], differing)})
    configured = [i for i, run in enumerate(runs) if run.config is not None]
    settings = [flat(parsed_config(runs[i].config)) for i in configured]
    keys = [key for key in dict.fromkeys(k for each in settings for k in each) if key != "run.dir"]
    texts = {key: [str(each.get(key, "-")) for each in settings] for key in keys}
    return {
        "columns": list(names),
        "rows": rows,
        "notes": notes,
        "configured": [names[i] for i in configured],
        "differences": [
            {"name": key, "cells": [{"text": text} for text in row]}
            for key, row in texts.items()
            if len(set(row)) > 1
        ],
    }


def _cells(values: Sequence[float | None], differing: str) -> list[dict[str, Any]]:
    given = {value for value in values if value is not None}
    best, mark = max(given), not differing and len(given) > 1
    return [{"text": "-" if v is None else percent(v), "best": mark and v == best} for v in values]


def _protocols(summaries: Sequence[Mapping[str, Any] | None]) -> str:
    """In what the protocols differ, e.g. ``size: 112 / 128``; empty where they agree."""
    given = [flat(s.get("protocol")) | _counts(s) for s in summaries if s]
    keys = [key for key in dict.fromkeys(k for p in given for k in p) if key not in OWN]
    differing = []
    for key in keys:
        values = [str(p.get(key, "-")) for p in given]
        if len(set(values)) > 1:
            differing.append(f"{key}: {' / '.join(values)}")
    return "; ".join(differing)


def _counts(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {key: summary[key] for key in ("samples", "bank_samples") if key in summary}
