"""Features on disk: the parts that ranks leave, and what they are put together to.

``features/DIGEST`` beside the encoder holds ``parts/`` while ranks are at work, then
``features.safetensors`` and ``rows.parquet``. Each file appears whole. One of features has the
sha256 of all that it holds in its header, and that of the table beside it: one rename replaces all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sce_video.documents import parse_json
from sce_video.errors import VerificationError, complain, first_line
from sce_video.evals.features import Features, check_finite, join, sample_names
from sce_video.evals.request import Request
from sce_video.evals.sample_table import sample_table
from sce_video.files import open_plain, sha256_file, whole_file
from sce_video.shardset.index import write_table

FEATURES_NAME = "features.safetensors"
ROWS_NAME = "rows.parquet"
PARTS = "parts"
_SUM = "sha256"  # in a header: of all else that the file holds
_TABLE_SUM = "rows_sha256"


def find(request: Request) -> Path | None:
    """A folder that holds the request's features: its own, or that of the whole set."""
    for folder in (request.folder, replace(request, split=None).folder):
        if (folder / FEATURES_NAME).is_file() and not is_older(folder / FEATURES_NAME):
            return folder
    return None


def is_older(path: Path) -> bool:
    """Whether a file of features is of a version that kept no sha256 with them."""
    try:
        with _opened(path) as stream:
            return _SUM not in _about(stream)
    except VerificationError:  # said where it is read
        return False


def read_features(folder: Path, request: Request) -> Features:
    """The features of the request's rows that ``folder`` holds.

    Raises:
        VerificationError: the file is damaged, or of other features.
        NotFiniteError: features that an older version kept are not finite.
    """
    whole = _read(folder / FEATURES_NAME, request)
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


def write_part(request: Request, found: Sequence[Features], numbers: Sequence[int]) -> None:
    """Keep the features of the request's batches ``numbers`` until all are there."""
    path = request.folder / PARTS / f"{uuid.uuid4().hex}.safetensors"
    _write(path, join(found), {"request": request.folder.name}, batches=torch.tensor(numbers))


def read_parts(request: Request) -> Iterator[tuple[Path, list[int]]]:
    """The parts that are there, and the numbers of their batches."""
    for path in (request.folder / PARTS).glob("*.safetensors"):
        with suppress(FileNotFoundError), _opened(path) as stream:  # another rank is done with all
            yield path, _batches(stream, request)


def _batches(stream: Any, request: Request) -> list[int]:
    numbers = stream.get_tensor("batches")
    within = numbers.dim() == 1 and numbers.dtype == torch.int64 and len(numbers)
    if not within or numbers.min() < 0 or numbers.max() >= len(request.batches):
        raise ValueError("batches that the request does not have")
    return [int(number) for number in numbers]


def drop_damaged(request: Request) -> None:
    """Remove parts that are not what was written, each with a line: they are extracted anew."""
    for path in (request.folder / PARTS).glob("*.safetensors"):
        try:
            _read(path, request)
        except FileNotFoundError:
            continue
        except (OSError, VerificationError) as error:
            with suppress(FileNotFoundError):  # another rank has just removed it, and said so
                path.unlink()
                complain(f"{str(error).partition('; delete ')[0]}; extracting it anew")


def put_together(request: Request, parts: Iterable[Path]) -> None:
    """Make the request's features of parts that hold all its batches; the parts go.

    Raises:
        VerificationError: the parts are not of one network.
    """
    found = [_read(path, request) for path in parts]
    if len({part.values.shape[1] for part in found if len(part.rows)}) > 1:
        folder = request.folder / PARTS
        raise VerificationError(f"{folder}: features of several widths; delete {folder}")
    _keep(request, join(found))
    shutil.rmtree(request.folder / PARTS)


def missing_rows(folder: Path, request: Request) -> NDArray[np.int64]:
    """The request's rows that ``folder`` lacks: those that could not be read."""
    with _opened(folder / FEATURES_NAME) as stream:
        return np.setdiff1d(request.rows, _rows(stream, request))


def check_table(folder: Path, request: Request) -> None:
    """Have the table beside features as they name it.

    It is written anew, with a line, where it is damaged or lost, or of features that a process was
    about to replace when it was killed.
    """
    path = folder / ROWS_NAME
    with _opened(folder / FEATURES_NAME) as stream:
        named, rows = _about(stream).get(_TABLE_SUM), _rows(stream, request)
    try:
        same = sha256_file(path, follow=False) == named
    except OSError:  # none, or no file
        same = False
    if not same:
        complain(f"{path}: not the one that {FEATURES_NAME} names; writing it anew")
        write_table(path, sample_table(request.index, rows), shared=True)


def add(request: Request, found: Features) -> None:
    """Put features of samples that the request's folder lacks beside those that it holds."""
    old = _read(request.folder / FEATURES_NAME, request)
    whole = join([found, old])  # of two the first counts
    names = set(sample_names(request.index, whole.rows))
    reasons = {**dict(old.missing), **dict(found.missing)}
    missing = sorted((name, why) for name, why in reasons.items() if name not in names)
    _keep(request, replace(whole, missing=missing))


def _keep(request: Request, whole: Features) -> None:
    table = request.folder / ROWS_NAME
    write_table(table, sample_table(request.index, whole.rows), shared=True)
    about = {
        **request.protocol(),
        "split": request.split,
        "samples": len(whole.rows),
        "request": request.folder.name,
        _TABLE_SUM: sha256_file(table),
    }
    _write(request.folder / FEATURES_NAME, whole, about)


def _write(path: Path, found: Features, about: dict[str, Any], **more: Tensor) -> None:
    """Write features without their labels; the header has ``about`` and what is missing."""
    tensors = {"features": found.values.contiguous(), "rows": torch.from_numpy(found.rows), **more}
    about = {**about, "missing": found.missing}
    header = json.dumps({**about, _SUM: content_sha256(about, tensors)})
    with whole_file(path, shared=True) as partial:
        save_file(tensors, partial, {"sce_video": header})


def content_sha256(about: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """sha256 of a header and of contiguous tensors, hexadecimal."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _read(path: Path, request: Request) -> Features:
    """What :func:`_write` wrote of a request, or of its whole set; labels are 0.

    Raises:
        VerificationError: it is something else.
    """
    part = path.parent.name == PARTS
    folder = path.parent.parent if part else path.parent
    with _opened(path) as stream:
        about = _about(stream)
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        if about.pop(_SUM, None) != content_sha256(about, tensors):
            raise ValueError("its sha256 is not that of what it holds")
        if about.get("request") != folder.name:
            raise ValueError("of another encoder, set or views")
        if tensors.keys() != {"features", "rows", *(["batches"] if part else [])}:
            raise ValueError(f"holds {', '.join(tensors)}")
        if part:
            _batches(stream, request)
        values, rows = tensors["features"], _rows(stream, request)
        if values.dim() != 2 or values.dtype != torch.float32 or len(values) != len(rows):
            raise ValueError("other features than rows")
        if request.scores and len(rows) and values.shape[1] != len(request.classes):
            raise ValueError("scores of other classes")
        missing = [(name, why) for name, why in about["missing"]]
        if not all(isinstance(text, str) for pair in missing for text in pair):
            raise ValueError("missing samples that have no name")
    return Features(values, rows, torch.zeros(len(rows), dtype=torch.int64), missing)


def _rows(stream: Any, request: Request) -> NDArray[np.int64]:
    rows = stream.get_tensor("rows")
    if rows.dim() != 1 or rows.dtype != torch.int64 or (rows.diff() <= 0).any():
        raise ValueError("its rows do not ascend")
    if len(rows) and (rows[0] < 0 or rows[-1] >= len(request.index)):
        raise ValueError("rows that the set does not have")
    numbers: NDArray[np.int64] = rows.numpy()
    return numbers


def _about(stream: Any) -> dict[str, Any]:
    about = parse_json((stream.metadata() or {}).get("sce_video", "null"))
    if not isinstance(about, dict):
        raise ValueError("not a file of features")
    return about


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Context: a file of features, whose tensors are read one by one.

    Raises:
        VerificationError: it is damaged.
    """
    os.close(open_plain(path))  # says of what is no file that it is none
    try:
        with safe_open(path, framework="pt") as stream:
            yield stream
    except (SafetensorError, ValueError, TypeError, LookupError) as error:
        reason = first_line(error)
        raise VerificationError(f"{path}: damaged: {reason}; delete {path.parent}") from error
