"""Retrieval and kNN of an encoder on a shard set: results as JSON with their protocol."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sce_video.engine.runtime import Runtime
from sce_video.errors import UsageError
from sce_video.evals.embed import Request, embed, read_features
from sce_video.evals.features import Features
from sce_video.evals.knn import knn_accuracy
from sce_video.evals.retrieval import RANKS, Retrieval, retrieve
from sce_video.shard.format import ShardIndex, write_atomic

_GALLERY = 10  # neighbours of a query that are written down


@dataclass(frozen=True)
class Extracted:
    """Features of bank and queries, and all that describes how they came about."""

    index: ShardIndex
    bank: Features
    queries: Features
    protocol: dict[str, Any]

    @property
    def missing(self) -> list[str]:
        """``shard/key: reason`` of each sample that could not be read, once."""
        pairs = {**dict(self.bank.missing), **dict(self.queries.missing)}
        return [f"{name}: {reason}" for name, reason in pairs.items()]


def bank_and_queries(index: ShardIndex, split: str | None) -> tuple[str, str]:
    """Split expressions for ``--split``: N means the N-th train and test list.

    Without it: column ``split``'s train against its test or val.

    Raises:
        UsageError: the set has no such lists.
    """
    columns = index.split_columns
    if split is not None:
        column = f"split{split}"
        if column not in columns:
            raise UsageError(f"{index.name}: no {column}; it has {', '.join(columns) or 'none'}")
        return f"{column}:train", f"{column}:test"
    values = index.manifest.splits.get("split", {})
    for name in ("test", "val"):
        if "train" in values and name in values:
            return "train", name
    raise UsageError(
        f"{index.name}: cannot tell bank from queries; give --split N, or --bank and --queries "
        "(a set of your own has splits where it was made with --csv path,label,split)"
    )


def check_disjoint(index: ShardIndex, bank: str, queries: str) -> None:
    """A sample that is in both would find itself.

    Raises:
        UsageError: there are such samples.
    """
    common = len(set(index.rows(bank)) & set(index.rows(queries)))
    if common:
        raise UsageError(
            f"{index.name}: {bank} and {queries} share {common} samples, "
            "each of which would find itself; give disjoint splits, or knn --leave-one-out"
        )


def extract_for(requests: Sequence[Request], runtime: Runtime) -> Extracted | None:
    """Labelled features of bank and queries; of one request it is both, leaving one out.

    None on other ranks than the main one.

    Raises:
        UsageError: no sample can be read, or none has a class.
    """
    folders = embed(requests, runtime)
    if folders is None:
        return None
    parts, unlabelled = [], 0
    for request, folder in zip(requests, folders, strict=True):
        found = read_features(folder, request)
        labelled = np.flatnonzero(found.labels.numpy() >= 0)
        unlabelled += len(found.rows) - len(labelled)
        if not len(labelled):
            what = "has a class" if len(found.rows) else "can be read"
            raise UsageError(f"{request.shards}: no sample of {request.split or 'it'} {what}")
        parts.append(found.at(labelled))
    bank, queries = requests[0].split or "all", requests[-1].split or "all"
    protocol = {
        **requests[0].protocol(),
        "bank": bank if len(requests) > 1 else f"{bank}, without the query",
        "queries": queries,
        "unlabelled": unlabelled,
    }
    return Extracted(requests[0].index, parts[0], parts[-1], protocol)


def write_retrieval(out: Path, data: Extracted) -> dict[str, Any]:
    """Rank the bank for every query; returns the content of ``retrieval.json``.

    Writes ``retrieval.json``, ``per_class.csv`` and ``neighbours.json`` into ``out``.
    """
    bank, queries = data.bank, data.queries
    result = retrieve(queries.values, queries.labels, bank.values, bank.labels)
    per_class = _per_class(result, data)
    summary: dict[str, Any] = {
        **{f"R@{k}": result.recall[k] for k in RANKS},
        "mAP": result.mean_ap,
        "protocol": {
            **data.protocol,
            "similarity": "dot product after subtracting each set's own mean and L2 normalisation",
        },
        **_counts(data),
        "per_class": per_class,
    }
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("class", "samples", "R@1", "mAP"))
    rows.writerows((name, *row.values()) for name, row in per_class.items())
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "per_class.csv", table.getvalue().encode())
    write_atomic(out / "neighbours.json", json.dumps(_neighbours(result, data)).encode())
    write_atomic(out / "retrieval.json", json.dumps(summary, indent=1).encode())
    return summary


def write_knn(
    out: Path, data: Extracted, k: int, temp: float, *, leave_one_out: bool
) -> dict[str, Any]:
    """Weighted kNN accuracy; writes ``knn.json`` into ``out`` and returns its content."""
    bank, queries = data.bank, data.queries
    if leave_one_out and len(bank.rows) == 1:
        raise UsageError(f"{data.index.name}: one sample alone has no neighbours")
    summary: dict[str, Any] = {
        "top1": knn_accuracy(
            *(queries.values, queries.labels, bank.values, bank.labels),
            k=k,
            temp=temp,
            leave_one_out=leave_one_out,
        ),
        "protocol": {**data.protocol, "k": k, "temp": temp, "votes": "exp(cosine / temp)"},
        **_counts(data),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "knn.json", json.dumps(summary, indent=1).encode())
    return summary


def _counts(data: Extracted) -> dict[str, Any]:
    return {
        "samples": len(data.queries.rows),
        "bank_samples": len(data.bank.rows),
        "missing": len(data.missing),
        "missing_samples": data.missing,
    }


def _per_class(result: Retrieval, data: Extracted) -> dict[str, dict[str, float]]:
    """Class -> its queries, the share of them whose nearest is right, and their mean AP."""
    table = {}
    for label in sorted(set(data.queries.labels.tolist())):
        own = data.queries.labels == label
        table[data.index.manifest.classes[label]] = {
            "samples": int(own.sum()),
            "R@1": result.first[own].double().mean().item(),
            "mAP": result.precision[own].mean().item(),
        }
    return table


def _neighbours(result: Retrieval, data: Extracted) -> list[dict[str, Any]]:
    """A query's index row and its nearest bank rows with scores."""
    rows = []
    nearest, scores = result.nearest[:, :_GALLERY], result.scores[:, :_GALLERY]
    for query, places, values in zip(data.queries.rows, nearest, scores, strict=True):
        found = [int(row) for row in data.bank.rows[places.numpy()]]
        rounded = [round(float(value), 4) for value in values]
        rows.append({"query": int(query), "nearest": found, "scores": rounded})
    return rows
