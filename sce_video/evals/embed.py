"""Features that are extracted once and kept: by several ranks, through kills, for all evaluations.

A request's folder is ``features/DIGEST`` beside its encoder; the digest is of all that the numbers
depend on. Batches are cut from the whole list (:func:`sce_video.evals.features.cut`); each rank
takes a run of them and writes what it has every few seconds into ``parts/``; the main one puts the
parts together. Ranks meet in the folder alone: there is no process group to wait or to fail.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sce_video.engine.runtime import Runtime
from sce_video.errors import VerificationError
from sce_video.evals.features import Features, cut, extract_batches, join
from sce_video.evals.scores import mean_of_views, mean_probability
from sce_video.files import whole_file
from sce_video.model.weights import OpenedEncoder
from sce_video.progress import Progress
from sce_video.shardset.index import ShardIndex, write_index_table
from sce_video.stream.clips import UniformClips

FEATURES_NAME = "features.safetensors"
ROWS_NAME = "rows.parquet"
_PARTS = "parts"
_VERSION = 1  # raised when the same request gives other numbers than before
_SAVE_EVERY = 20.0  # seconds of work that a kill may cost
_POLL = 0.2  # seconds
_FEATURES = {"features": "trunk after global average pooling"}
_SCORES = {"scores": "softmax of each view, then mean over the views of a sample"}


@dataclass(frozen=True)
class Request:
    """Which samples' features or scores, from which network and views."""

    encoder: OpenedEncoder  # or a classifier
    index: ShardIndex
    shards: str  # where the set lies, for the protocol
    split: str | None  # of the set; None = all of it
    views: UniformClips
    device: torch.device
    workers: int = 0
    scores: bool = False  # probabilities of a classifier's classes

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the index, ascending."""
        return self.index.rows(self.split)

    @cached_property
    def folder(self) -> Path:
        """Where the features of exactly this request are kept."""
        everything = {
            "version": _VERSION,
            "encoder": self.encoder.digest,
            "spec": self.encoder.spec.model_dump(),
            "manifest": self.index.digest,
            "rows": hashlib.sha256(self.rows.tobytes()).hexdigest(),
            "views": asdict(self.views),
            "precision": self.precision,
        }
        digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
        return self.encoder.folder / "features" / digest[:16]

    @property
    def precision(self) -> str:
        """Of the arithmetic; processors of other kinds round otherwise."""
        return f"float32 on {self.device.type}"

    @cached_property
    def batches(self) -> list[NDArray[np.int64]]:
        """The rows in batches, the same for any number of ranks."""
        return cut(self.rows, self.views)

    def kept(self) -> Path | None:
        """A folder that holds these features: this request's, or that of the whole set."""
        for folder in (self.folder, replace(self, split=None).folder):
            if (folder / FEATURES_NAME).is_file():
                return folder
        return None

    def protocol(self) -> dict[str, Any]:
        """The extraction spelled out, so that figures are compared like with like."""
        pooled = "" if self.scores else ", features averaged"
        return {
            **self.encoder.identity,
            "shards": self.shards,
            "dataset": self.index.manifest.dataset,
            "manifest_sha256": self.index.digest,
            "not_in_shards": self.index.manifest.rejected,
            "views": f"{self.views.clips} clips x {self.views.crops} crops{pooled}",
            "frames": self.views.frames,
            "seconds": self.views.seconds,
            "size": self.views.size,
            "mean": self.encoder.spec.mean,
            "std": self.encoder.spec.std,
            "precision": self.precision,
            **(_SCORES if self.scores else _FEATURES),
        }


def embed(requests: Sequence[Request], runtime: Runtime) -> list[Path] | None:
    """Have the features of ``requests``; only what no folder holds yet is extracted.

    Samples that an older folder lacks are tried again: their shards may have been repaired.

    Returns:
        On the main rank the folder of each, holding ``features.safetensors`` and ``rows.parquet``;
        None on the others, which have done their share.

    Raises:
        SceVideoError: a shard cannot be read.
        VerificationError: a part is damaged.
    """
    older = [request.kept() for request in requests]
    for request in requests:
        _do_share(request, runtime)
    if not runtime.main:
        return None
    folders = [_finished(request) for request in requests]
    for request, folder in zip(requests, older, strict=True):
        if folder:
            _try_again(request, folder)
    return folders


def read_features(folder: Path, request: Request) -> Features:
    """Those of the request's rows that ``folder`` holds.

    Raises:
        VerificationError: the file is damaged.
    """
    tensors, about = _read(folder / FEATURES_NAME)
    labels = torch.from_numpy(request.index.numbers("label").astype(np.int64))
    rows = tensors["rows"].numpy()
    names = _names(request.index, request.rows) if about["missing"] else set()
    missing = [(name, why) for name, why in about["missing"] if name in names]
    whole = Features(tensors["features"], rows, labels[tensors["rows"]], missing)
    return whole.at(np.flatnonzero(np.isin(rows, request.rows)))


def features_of(requests: Sequence[Request], runtime: Runtime) -> list[Features] | None:
    """Have and read the features of ``requests``; None on other ranks than the main one."""
    folders = embed(requests, runtime)
    if folders is None:
        return None
    return [read_features(*pair) for pair in zip(folders, requests, strict=True)]


def sample_table(index: ShardIndex, rows: NDArray[np.int64]) -> pa.Table:
    """One line a row of the set's index, in their order, and what it says of each."""
    table = index.table.take(pa.array(rows))
    columns = {name: table.column(name) for name in ("shard", "key", "label", "class", "path")}
    columns["label"] = columns["label"].cast(pa.int64())
    return pa.table({"row": rows, **columns})


def _names(index: ShardIndex, rows: NDArray[np.int64]) -> set[str]:
    table = index.table.select(["shard", "key"]).take(pa.array(rows))
    return {f"{row['shard']}/{row['key']}" for row in table.to_pylist()}


def _do_share(request: Request, runtime: Runtime) -> None:
    """Extract this rank's run of the batches, without those that a part holds already."""
    count, parts = len(request.batches), request.folder / _PARTS
    share = range(
        count * runtime.rank // runtime.ranks, count * (runtime.rank + 1) // runtime.ranks
    )
    done = {number for _, numbers in _parts(parts) for number in numbers}
    # Asked after the parts were listed: they are removed once the features are there.
    if request.kept():
        return
    parts.mkdir(parents=True, exist_ok=True)
    todo = [number for number in share if number not in done]
    found: list[Features] = []
    written, since = 0, time.monotonic()
    title = request.split or "all"
    first = len(share) - len(todo)
    with Progress(len(share), "batches", title=title, start=first, shown=runtime.main) as bar:
        batches = [request.batches[number] for number in todo]
        for done_now, features in enumerate(_passes(request, batches), 1):
            found.append(features)
            last = done_now == len(todo)
            if last or time.monotonic() - since >= _SAVE_EVERY:
                _write_part(parts, found, todo[written:done_now])
                found, written, since = [], done_now, time.monotonic()
            bar.update(first + done_now)


def _passes(request: Request, batches: list[NDArray[np.int64]]) -> Iterator[Features]:
    """The features of each of the batches."""
    spec = request.encoder.spec
    passes = extract_batches(
        {"": request.encoder.trunk},
        request.index,
        batches,
        request.views,
        mean=spec.mean,
        std=spec.std,
        workers=request.workers,
        device=request.device,
        pool=mean_probability if request.scores else mean_of_views,
    )
    for features in passes if batches else ():
        yield features[""]


def _write_part(folder: Path, found: list[Features], numbers: list[int]) -> None:
    part = join(found)
    tensors = {
        "features": part.values,
        "rows": torch.from_numpy(part.rows),
        "batches": torch.tensor(numbers),
    }
    _write(folder / f"{uuid.uuid4().hex}.safetensors", tensors, {"missing": part.missing})


def _parts(folder: Path) -> Iterator[tuple[Path, list[int]]]:
    """The parts that are there, and the numbers of their batches."""
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as stream:
            yield path, stream.get_tensor("batches").tolist()


def _finished(request: Request) -> Path:
    """The folder of the request, once all ranks have done their share."""
    while (folder := request.kept()) is None:
        try:
            found = dict(_parts(request.folder / _PARTS))
            if len({number for numbers in found.values() for number in numbers}) == len(
                request.batches
            ):
                _put_together(request, list(found))
            else:
                time.sleep(_POLL)
        except FileNotFoundError:
            if request.kept() is None:  # else another process has just done the same
                raise
    return folder


def _put_together(request: Request, paths: list[Path]) -> None:
    _keep(request, join([_part(path) for path in paths]))
    shutil.rmtree(request.folder / _PARTS)


def _try_again(request: Request, folder: Path) -> None:
    """Extract what ``folder`` lacks of the request's rows, with the rest of their batches."""
    there, about = _read(folder / FEATURES_NAME, ("rows",))
    lost = np.setdiff1d(request.rows, there["rows"].numpy())
    if not (len(lost) and about["missing"]):
        return
    # What others computed in a batch without the lost sample may differ in its last bits.
    made = request if folder == request.folder else replace(request, split=None)
    batches = [batch for batch in made.batches if np.isin(batch, lost).any()]
    with Progress(len(batches), "batches", title="missing before") as bar:
        found = []
        for features in _passes(made, batches):
            found.append(features)
            bar.update(len(found))
    new, old = join(found), _part(folder / FEATURES_NAME)
    if not np.isin(lost, new.rows).any():
        return
    whole = join([new, old])  # of two the first counts
    names = _names(request.index, whole.rows)
    reasons = {**dict(old.missing), **dict(new.missing)}
    missing = sorted((name, why) for name, why in reasons.items() if name not in names)
    _keep(made, replace(whole, missing=missing))


def _part(path: Path) -> Features:
    """What a file of ours holds; without labels."""
    tensors, about = _read(path)
    rows = tensors["rows"]
    missing = [(name, why) for name, why in about["missing"]]
    return Features(tensors["features"], rows.numpy(), torch.zeros_like(rows), missing)


def _keep(request: Request, whole: Features) -> None:
    write_index_table(request.folder / ROWS_NAME, sample_table(request.index, whole.rows))
    tensors = {"features": whole.values.contiguous(), "rows": torch.from_numpy(whole.rows)}
    about = {"split": request.split, "samples": len(whole.rows), "missing": whole.missing}
    _write(request.folder / FEATURES_NAME, tensors, {**request.protocol(), **about})


def _write(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    own = path.with_name(uuid.uuid4().hex)  # others may write the same
    with whole_file(own) as partial:
        save_file(tensors, partial, {"sce_video": json.dumps(about)})
    own.replace(path)


def _read(
    path: Path, names: Sequence[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Those tensors of a file of ours, None = all, and its header."""
    try:
        with safe_open(path, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in names or stream.keys()}
            return tensors, json.loads(stream.metadata()["sce_video"])
    except (SafetensorError, ValueError) as error:
        raise VerificationError(f"{path}: damaged: {error}; delete {path.parent}") from error
