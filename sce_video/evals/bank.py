"""Bank and queries of a shard set: which lists, their features, and what results say of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sce_video.engine.runtime import Runtime
from sce_video.errors import UsageError
from sce_video.evals.embed import features_of
from sce_video.evals.features import Features
from sce_video.evals.request import Request
from sce_video.shardset.index import ShardIndex


@dataclass(frozen=True)
class BankAndQueries:
    """Features of bank and queries, and all that describes how they came about."""

    index: ShardIndex
    bank: Features
    queries: Features
    protocol: dict[str, Any]

    @property
    def missing(self) -> list[str]:
        """``shard/key: reason`` of each sample that could not be read, once."""
        return list(dict.fromkeys(self.bank.missing_lines + self.queries.missing_lines))

    def counts(self) -> dict[str, Any]:
        """What every result says of the samples."""
        return {
            "samples": len(self.queries.rows),
            "bank_samples": len(self.bank.rows),
            "missing": len(self.missing),
            "missing_samples": self.missing,
        }


def find_lists(
    index: ShardIndex, split: str | None, bank: str | None, queries: str | None
) -> tuple[str, str]:
    """The lists of bank and queries as given, else of ``split``: N = the N-th train and test.

    Without either: column ``split``'s train against its test or val.

    Raises:
        UsageError: the set has no such lists, or a sample is in both and would find itself.
    """
    if bank is None or queries is None:
        bank, queries = _lists(index, split)
    common = len(np.intersect1d(index.rows(bank), index.rows(queries)))
    if common:
        raise UsageError(
            f"{index.name}: {bank} and {queries} share {common} samples, "
            "each of which would find itself; give disjoint splits, or knn --leave-one-out"
        )
    return bank, queries


def _lists(index: ShardIndex, split: str | None) -> tuple[str, str]:
    columns = index.split_columns
    if split is not None:
        column = split if split in columns else f"split{split}"
        if column not in columns:
            has = ", ".join(columns) or "none"
            raise UsageError(f"{index.name}: no lists of a split '{split}'; it has {has}")
        return f"{column}:train", f"{column}:test"
    values = index.manifest.splits.get("split", {})
    for name in ("test", "val"):
        if "train" in values and name in values:
            return "train", name
    raise UsageError(
        f"{index.name}: cannot tell bank from queries; give --split N, or --bank and --queries "
        "(a set of your own has splits where it was made with --csv path,label,split)"
    )


def lists_protocol(requests: Sequence[Request]) -> dict[str, Any]:
    """What is known of bank and queries before they are extracted."""
    bank, queries = requests[0].split or "all", requests[-1].split or "all"
    return {
        **requests[0].protocol(),
        "bank": bank if len(requests) > 1 else f"{bank}, without the query",
        "queries": queries,
    }


def extract_lists(requests: Sequence[Request], runtime: Runtime) -> BankAndQueries | None:
    """Labelled features of bank and queries; of one request it is both, leaving one out.

    None on other ranks than the main one.

    Raises:
        UsageError: no sample can be read, or none has a class.
    """
    everything = features_of(requests, runtime)
    if everything is None:
        return None
    parts, unlabelled = [], 0
    for request, found in zip(requests, everything, strict=True):
        labelled = np.flatnonzero(found.labels.numpy() >= 0)
        unlabelled += len(found.rows) - len(labelled)
        if not len(labelled):
            what = "has a class" if len(found.rows) else "can be read"
            raise UsageError(f"{request.shards}: no sample of {request.split or 'it'} {what}")
        parts.append(found.at(labelled))
    protocol = {**lists_protocol(requests), "unlabelled": unlabelled}
    return BankAndQueries(requests[0].index, parts[0], parts[-1], protocol)
