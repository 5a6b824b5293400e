"""Weighted k-nearest-neighbour classification of features.

Shapes: Q queries, B bank items, F feature width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sce_video.errors import UsageError
from sce_video.evals.accuracy import top_k_accuracy
from sce_video.evals.bank import BankAndQueries
from sce_video.evals.results import write_json
from sce_video.evals.retrieval import rows_at_once


def knn_predict(
    query: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    *,
    k: int = 20,
    temp: float = 0.07,
    leave_one_out: bool = False,
) -> Tensor:
    """Class scores of each query: its k nearest bank items vote with ``exp(cosine / temp)``.

    Memory beside the arguments and a copy of the bank stays below 200 MB.

    Args:
        query: ``[Q,F]``.
        bank: ``[B,F]``.
        bank_labels: ``[B]`` int64, 0 or more.
        k: neighbours; all of a smaller bank.
        temp: of the votes, > 0.
        leave_one_out: the queries are the bank, and none votes for itself.

    Returns:
        Scores ``[Q,C]`` of the classes up to the bank's largest; a query's is the largest.

    Raises:
        ValueError: nobody is there to vote.
    """
    k = min(k, len(bank) - leave_one_out)
    if k < 1:
        raise ValueError(f"kNN needs a bank, got {len(bank)} items")
    bank = F.normalize(bank, dim=1)
    scores = torch.zeros(len(query), int(bank_labels.max()) + 1, dtype=query.dtype)
    step = rows_at_once(len(bank))
    for first in range(0, len(query), step):
        cosines = F.normalize(query[first : first + step], dim=1) @ bank.T
        if leave_one_out:
            own = torch.arange(len(cosines))
            cosines[own, first + own] = -torch.inf
        cosine, nearest = cosines.topk(k, dim=1)
        votes = ((cosine - cosine[:, :1]) / temp).exp()  # relative to the nearest: no overflow
        scores[first : first + step].scatter_add_(1, bank_labels[nearest], votes)
    return scores


def votes(k: int, temp: float) -> dict[str, Any]:
    """How neighbours vote, for the protocol."""
    return {"k": k, "temp": temp, "votes": "exp(cosine / temp)"}


def write_knn(
    out: Path, data: BankAndQueries, k: int, temp: float, *, leave_one_out: bool
) -> dict[str, Any]:
    """Weighted kNN accuracy; writes ``knn.json`` into ``out`` and returns its content."""
    bank, queries = data.bank, data.queries
    if leave_one_out and len(bank.rows) == 1:
        raise UsageError(f"{data.index.name}: one sample alone has no neighbours")
    scores = knn_predict(
        queries.values, bank.values, bank.labels, k=k, temp=temp, leave_one_out=leave_one_out
    )
    summary: dict[str, Any] = {
        "top1": top_k_accuracy(scores, queries.labels, 1),
        "protocol": {**data.protocol, **votes(k, temp)},
        **data.counts(),
    }
    write_json(out / "knn.json", summary)
    return summary
