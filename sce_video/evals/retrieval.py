"""Video retrieval: queries against a bank, by the published protocol.

Shapes: Q queries, B bank items, F feature width.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sce_video.evals.bank import BankAndQueries
from sce_video.evals.results import write_json, write_table
from sce_video.files import write_whole

RANKS = (1, 5, 10, 15, 20, 25, 50)
_GALLERY = 10  # neighbours of a query that are written down
_PAIRS_AT_ONCE = 2**22  # of a query and a bank item; some 40 bytes each


def rows_at_once(bank: int) -> int:
    """Queries that are compared with the whole bank at a time, so that memory stays bounded."""
    return max(1, _PAIRS_AT_ONCE // bank)


def prepare(features: Tensor, *, center: bool = True, normalize: bool = True) -> Tensor:
    """Subtract the set's own mean, then L2-normalise; ``[n,F]``."""
    if center:
        features = features - features.mean(0)
    return F.normalize(features, dim=1) if normalize else features


@dataclass(frozen=True)
class Retrieval:
    """Result over all queries."""

    recall: dict[int, float]  # k -> share of queries with a same-class item among the k nearest
    first: Tensor  # [Q] bool: the nearest item is of the query's class
    precision: Tensor  # [Q] average precision of the whole ranking; 0 for a class not in the bank
    nearest: Tensor  # [Q,k] int64 bank positions, nearest first
    scores: Tensor  # [Q,k] cosines


def retrieve(
    query: Tensor,
    query_labels: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    *,
    ranks: tuple[int, ...] = RANKS,
    center: bool = True,
    normalize: bool = True,
) -> Retrieval:
    """Rank the bank for every query by dot product of prepared features.

    Args:
        query: ``[Q,F]``.
        query_labels: ``[Q]`` int64.
        bank: ``[B,F]``.
        bank_labels: ``[B]`` int64.
        ranks: the k of R@k; a k beyond the bank counts the whole bank.
        center: subtract each set's own mean.
        normalize: L2-normalise.

    Raises:
        ValueError: no queries or an empty bank.
    """
    if len(query) == 0 or len(bank) == 0:
        raise ValueError(f"retrieval needs queries and a bank, got {len(query)} and {len(bank)}")
    query = prepare(query, center=center, normalize=normalize)
    bank = prepare(bank, center=center, normalize=normalize)
    keep = min(max(ranks), len(bank))
    nearest, scores, precisions = [], [], []
    chunks = (torch.split(x, rows_at_once(len(bank))) for x in (query, query_labels))
    for rows, labels in zip(*chunks, strict=True):
        similarity, order = (rows @ bank.T).sort(dim=1, descending=True, stable=True)
        hits = bank_labels[order] == labels[:, None]
        precisions.append(_average_precision(hits))
        nearest.append(order[:, :keep].clone())
        scores.append(similarity[:, :keep].clone())
    found, precision = torch.cat(nearest), torch.cat(precisions)
    hit = bank_labels[found] == query_labels[:, None]
    recall = {k: hit[:, :k].any(1).double().mean().item() for k in ranks}
    return Retrieval(recall, hit[:, 0], precision, found, torch.cat(scores))


def _average_precision(hits: Tensor) -> Tensor:
    """AP of each ranking ``[Q,B]`` bool -> ``[Q]`` float64."""
    place = torch.arange(1, hits.shape[1] + 1, device=hits.device, dtype=torch.float64)
    precision = hits.cumsum(1) / place
    return (precision * hits).sum(1) / hits.sum(1).clamp(min=1)


def write_retrieval(out: Path, data: BankAndQueries) -> dict[str, Any]:
    """Rank the bank for every query; returns the content of ``retrieval.json``.

    Writes ``retrieval.json``, ``per_class.csv`` and ``neighbours.json`` into ``out``.
    """
    bank, queries = data.bank, data.queries
    result = retrieve(queries.values, queries.labels, bank.values, bank.labels)
    per_class = _per_class(result, data)
    summary: dict[str, Any] = {
        **{f"R@{k}": result.recall[k] for k in RANKS},
        "mAP": result.precision.mean().item(),
        "protocol": {
            **data.protocol,
            "similarity": "dot product after subtracting each set's own mean and L2 normalisation",
        },
        **data.counts(),
        "per_class": per_class,
    }
    rows = [(name, *row.values()) for name, row in per_class.items()]
    write_table(out / "per_class.csv", ("class", "samples", "R@1", "mAP"), rows)
    write_whole(out / "neighbours.json", json.dumps(_neighbours(result, data)).encode())
    write_json(out / "retrieval.json", summary)
    return summary


def _per_class(result: Retrieval, data: BankAndQueries) -> dict[str, dict[str, float]]:
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


def _neighbours(result: Retrieval, data: BankAndQueries) -> list[dict[str, Any]]:
    """Each query's index row, and the rows and scores of its nearest in the bank."""
    nearest = data.bank.rows[result.nearest[:, :_GALLERY].numpy()].tolist()
    scores = result.scores[:, :_GALLERY].tolist()
    return [
        {"query": query, "nearest": rows, "scores": [round(value, 4) for value in values]}
        for query, rows, values in zip(data.queries.rows.tolist(), nearest, scores, strict=True)
    ]
