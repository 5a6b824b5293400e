"""Features on disk: the parts that ranks leave, and what they are put together to.

``features/DIGEST`` beside the encoder holds ``parts/`` while ranks are at work, then
``features.safetensors`` and ``rows.parquet``. Each file appears whole.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sce_video.errors import VerificationError
from sce_video.evals.features import Features, check_finite, join, sample_names
from sce_video.evals.request import Request
from sce_video.files import whole_file
from sce_video.shardset.index import ShardIndex, write_table

FEATURES_NAME = "features.safetensors"
ROWS_NAME = "rows.parquet"
PARTS = "parts"


def find(request: Request) -> Path | None:
    """A folder that holds the request's features: its own, or that of the whole set."""
    for folder in (request.folder, replace(request, split=None).folder):
        if (folder / FEATURES_NAME).is_file():
            return folder
    return None


def read_features(folder: Path, request: Request) -> Features:
    """The features of the request's rows that ``folder`` holds.

    Raises:
        VerificationError: the file is damaged.
        NotFiniteError: features that an older version kept are not finite.
    """
    whole = _read(folder / FEATURES_NAME)
    labels = torch.from_numpy(request.labels[whole.rows])
    names = set(sample_names(request.index, request.rows)) if whole.missing else set()
    missing = [(name, why) for name, why in whole.missing if name in names]
    own = np.flatnonzero(np.isin(whole.rows, request.rows))
    found = replace(whole, labels=labels, missing=missing).at(own)
    check_finite(
        found.values,
        partial(sample_names, request.index, found.rows),
        f"{folder / FEATURES_NAME}: holds",
        f"delete {folder}, and extract anew",
    )
    return found


def sample_table(index: ShardIndex, rows: NDArray[np.int64]) -> pa.Table:
    """One line a row of the set's index, in their order, and what it says of each."""
    table = index.table.take(pa.array(rows))
    columns = {name: table.column(name) for name in ("shard", "key", "label", "class", "path")}
    columns["label"] = columns["label"].cast(pa.int64())
    return pa.table({"row": rows, **columns})


def write_part(request: Request, found: Sequence[Features], numbers: Sequence[int]) -> None:
    """Keep the features of the request's batches ``numbers`` until all are there."""
    path = request.folder / PARTS / f"{uuid.uuid4().hex}.safetensors"
    _write(path, join(found), {}, batches=torch.tensor(numbers))


def read_parts(request: Request) -> Iterator[tuple[Path, list[int]]]:
    """The parts that are there, and the numbers of their batches."""
    for path in (request.folder / PARTS).glob("*.safetensors"):
        with _opened(path) as stream:
            yield path, stream.get_tensor("batches").tolist()


def put_together(request: Request, parts: Iterable[Path]) -> None:
    """Make the request's features of parts that hold all its batches; the parts go."""
    _keep(request, join([_read(path) for path in parts]))
    shutil.rmtree(request.folder / PARTS)


def missing_rows(folder: Path, request: Request) -> NDArray[np.int64]:
    """The request's rows that ``folder`` lacks: those that could not be read."""
    with _opened(folder / FEATURES_NAME) as stream:
        return np.setdiff1d(request.rows, stream.get_tensor("rows").numpy())


def add(request: Request, found: Features) -> None:
    """Put features of samples that the request's folder lacks beside those that it holds."""
    old = _read(request.folder / FEATURES_NAME)
    whole = join([found, old])  # of two the first counts
    names = set(sample_names(request.index, whole.rows))
    reasons = {**dict(old.missing), **dict(found.missing)}
    missing = sorted((name, why) for name, why in reasons.items() if name not in names)
    _keep(request, replace(whole, missing=missing))


def _keep(request: Request, whole: Features) -> None:
    rows = sample_table(request.index, whole.rows)
    write_table(request.folder / ROWS_NAME, rows, shared=True)
    about = {**request.protocol(), "split": request.split, "samples": len(whole.rows)}
    _write(request.folder / FEATURES_NAME, whole, about)


def _write(path: Path, found: Features, about: dict[str, Any], **more: Tensor) -> None:
    """Write features without their labels; the header has ``about`` and what is missing."""
    tensors = {"features": found.values.contiguous(), "rows": torch.from_numpy(found.rows), **more}
    with whole_file(path, shared=True) as partial:
        save_file(tensors, partial, {"sce_video": json.dumps({**about, "missing": found.missing})})


def _read(path: Path) -> Features:
    """What :func:`_write` wrote; labels are 0."""
    with _opened(path) as stream:
        rows = stream.get_tensor("rows")
        missing = json.loads(stream.metadata()["sce_video"])["missing"]
        values, pairs = stream.get_tensor("features"), [(name, why) for name, why in missing]
    return Features(values, rows.numpy(), torch.zeros_like(rows), pairs)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Context: a file of features, whose tensors are read one by one.

    Raises:
        VerificationError: it is damaged.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            yield stream
    except (SafetensorError, ValueError) as error:
        raise VerificationError(f"{path}: damaged: {error}; delete {path.parent}") from error
