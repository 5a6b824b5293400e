"""Mean and standard deviation of test results over runs; pure functions to JSON values."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sce_video.config.load import flat
from sce_video.report.inputs import RunFiles
from sce_video.report.tables import FIGURES, comparable, counted, figures, percent, result_table

# Settings in which the runs of one mean may differ.
_FREE = ("run.dir", "run.seed", "run.resume", "data.split", "data.cache", "data.workers")


def means(names: Sequence[str], runs: Sequence[RunFiles]) -> list[dict[str, Any]]:
    """A table each of the runs that differ in the split alone: same settings, same protocol.

    Runs whose settings differ in more, such as the weights they began with, are another method.
    """
    groups: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for name, run in zip(names, runs, strict=True):
        test, settings = run.results.get("test"), flat(run.settings)
        if test and settings and len(figures(test, "test")) == len(FIGURES["test"]):
            same = {k: v for k, v in settings.items() if k not in _FREE}
            protocol = comparable(test)
            if {"dataset", "split"} <= protocol.keys():
                del protocol["split"]
                alike = repr((sorted(same.items()), sorted(protocol.items())))
                groups[alike][name] = test
    tables = []
    for group in groups.values():
        splits = {str(test["protocol"]["split"]) for test in group.values()}
        if len(splits) == len(group) > 1:
            tables.append(mean_table(list(group), list(group.values())))
    return tables


def spread_table(spread: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``mean.json`` as :func:`mean_table`."""
    results = spread["runs"]
    return mean_table([result["protocol"]["classifier"] for result in results], results)


def mean_table(names: Sequence[str], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation of the figures, as :func:`result_table` gives a result's.

    Args:
        names: of the runs.
        results: of their tests, two or more.
    """
    protocols = [result["protocol"] for result in results]
    sets = ", ".join(dict.fromkeys(str(p["dataset"]) for p in protocols))
    pairs = zip(protocols, results, strict=True)
    splits = ", ".join(str(counted(p["split"], result.get("samples"))) for p, result in pairs)
    spread = []
    for key, name in FIGURES["test"].items():
        values = [100 * float(result[key]) for result in results]
        spread.append([name, f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f} %"])
    together = {
        "missing": sum(result.get("missing", 0) for result in results),
        "missing_samples": [
            line for result in results for line in result.get("missing_samples", [])
        ],
        "protocol": {"not_in_shards": protocols[0].get("not_in_shards", {})},
    }
    return {
        **result_table(together, "test", {}),
        "title": f"Mean of {len(results)} tests: {sets}, {splits}",
        "figures": spread,
        "protocol": [
            ["±", "sample standard deviation over the tests"],
            *(_told(name, result) for name, result in zip(names, results, strict=True)),
        ],
    }


def _told(name: str, result: Mapping[str, Any]) -> list[str]:
    said = ", ".join(f"{what} {percent(v)}" for what, v in figures(result, "test").items())
    return [str(result["protocol"]["split"]), f"{said}: {name}"]
