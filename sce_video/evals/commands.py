"""``retrieve`` and ``knn``: an encoder on a shard set, results as JSON with their protocol."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sce_video.errors import UsageError
from sce_video.evals.features import Features, extract
from sce_video.evals.knn import knn_accuracy
from sce_video.evals.retrieval import RANKS, Retrieval, retrieve
from sce_video.evals.views import check_media, eval_views
from sce_video.model.encoder import ENCODER_NAME, load_encoder
from sce_video.shard.format import ShardIndex, sha256_file, write_atomic
from sce_video.stream.clips import UniformClips
from sce_video.stream.shards import open_set

_GALLERY = 10  # neighbours of a query that are written down


@dataclass(frozen=True)
class EvalRequest:
    """What to evaluate; ``bank`` and ``queries`` are split expressions of the shard set."""

    encoder: Path
    shards: str | Path  # a folder, or a URL
    bank: str
    queries: str
    clips: int = 10
    crops: int = 3
    size: int | None = None
    workers: int = 2


@dataclass(frozen=True)
class Extracted:
    """Features of bank and queries, and all that describes how they came about."""

    index: ShardIndex
    bank: Features
    queries: Features
    protocol: dict[str, Any]


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


def extract_both(request: EvalRequest) -> Extracted:
    """Features of bank and queries from the request's encoder."""
    trunk, spec = load_encoder(request.encoder)
    index = open_set(request.shards)
    check_media(index, spec, request.encoder)
    views = eval_views(spec, request.clips, request.crops, request.size)
    common = len(set(index.rows(request.bank)) & set(index.rows(request.queries)))
    if common:
        raise UsageError(
            f"{index.name}: {request.bank} and {request.queries} share {common} samples, "
            "each of which would find itself; give disjoint splits"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parts = []
    for title, split in (("bank", request.bank), ("queries", request.queries)):
        found = extract(
            {"encoder": trunk},
            index,
            index.rows(split),
            views,
            mean=spec.mean,
            std=spec.std,
            workers=request.workers,
            device=device,
            title=title,
        )["encoder"]
        if len(found.rows) == 0:
            raise UsageError(f"{request.shards}: no sample of {split} can be read")
        parts.append(found)
    return Extracted(index, parts[0], parts[1], protocol(request, index, views))


def protocol(request: EvalRequest, index: ShardIndex, views: UniformClips) -> dict[str, Any]:
    """The evaluation spelled out, so that figures are compared like with like."""
    file = request.encoder
    return {
        "encoder": str(request.encoder),
        "encoder_sha256": sha256_file(file / ENCODER_NAME if file.is_dir() else file),
        "shards": str(request.shards),
        "dataset": index.manifest.dataset,
        "manifest_sha256": index.digest,
        "not_in_shards": index.manifest.rejected,
        "bank": request.bank,
        "queries": request.queries,
        "views": f"{views.clips} clips x {views.crops} crops, features averaged",
        "frames": views.frames,
        "seconds": views.seconds,
        "size": views.size,
        "features": "trunk after global average pooling",
    }


def run_retrieval(request: EvalRequest, out: Path) -> dict[str, Any]:
    """Retrieval; writes ``retrieval.json`` and ``neighbours.json`` into ``out``."""
    data = extract_both(request)
    bank, queries = data.bank, data.queries
    result = retrieve(queries.values, queries.labels, bank.values, bank.labels)
    return write_retrieval(out, result, data)


def write_retrieval(out: Path, result: Retrieval, data: Extracted) -> dict[str, Any]:
    """Write what :func:`run_retrieval` promises; returns the content of ``retrieval.json``."""
    missing = data.bank.missing + data.queries.missing
    summary: dict[str, Any] = {
        **{f"R@{k}": result.recall[k] for k in RANKS},
        "mAP": result.mean_ap,
        "protocol": {
            **data.protocol,
            "similarity": "dot product after subtracting each set's own mean and L2 normalisation",
        },
        "samples": len(data.queries.rows),
        "bank_samples": len(data.bank.rows),
        "missing": len(missing),
        "missing_samples": [f"{name}: {reason}" for name, reason in missing],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "retrieval.json", json.dumps(summary, indent=1).encode())
    write_atomic(out / "neighbours.json", json.dumps(_neighbours(result, data)).encode())
    return summary


def _neighbours(result: Retrieval, data: Extracted) -> list[dict[str, Any]]:
    """A query's index row and its nearest bank rows with scores."""
    rows = []
    nearest, scores = result.nearest[:, :_GALLERY], result.scores[:, :_GALLERY]
    for query, places, values in zip(data.queries.rows, nearest, scores, strict=True):
        found = [int(row) for row in data.bank.rows[places.numpy()]]
        rounded = [round(float(value), 4) for value in values]
        rows.append({"query": int(query), "nearest": found, "scores": rounded})
    return rows


def run_knn(request: EvalRequest, out: Path, k: int, temp: float) -> dict[str, Any]:
    """Weighted kNN accuracy; writes ``knn.json`` into ``out``."""
    data = extract_both(request)
    bank, queries = data.bank, data.queries
    accuracy = knn_accuracy(
        queries.values, queries.labels, bank.values, bank.labels, k=k, temp=temp
    )
    missing = bank.missing + queries.missing
    summary = {
        "top1": accuracy,
        "protocol": {**data.protocol, "k": k, "temp": temp, "votes": "exp(cosine / temp)"},
        "samples": len(queries.rows),
        "bank_samples": len(bank.rows),
        "missing": len(missing),
        "missing_samples": [f"{name}: {reason}" for name, reason in missing],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "knn.json", json.dumps(summary, indent=1).encode())
    return summary
