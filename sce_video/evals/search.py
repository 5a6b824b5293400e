"""``search``: an index of a shard set's samples, asked with a file or with a sample of the set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from sce_video.errors import SceVideoError, UsageError, VerificationError
from sce_video.evals.features import Features, extract, forward
from sce_video.evals.nearest import Kind, Nearest, build, load_faiss, read_index, write_index
from sce_video.evals.scores import mean_of_views
from sce_video.evals.views import check_media, eval_views
from sce_video.model.encoder import ENCODER_NAME, EncoderSpec, load_encoder
from sce_video.shard.format import ShardIndex, sha256_file, write_atomic, write_index_table
from sce_video.stream.clips import UniformClips
from sce_video.stream.cut import make_clips
from sce_video.stream.decode import DecodeError
from sce_video.stream.pipeline import facts
from sce_video.stream.shards import open_set

PROTOCOL_NAME = "search.json"
VECTORS_NAME = "index.faiss"
ROWS_NAME = "rows.parquet"


class Protocol(BaseModel):
    """What an index holds and how it was made: ``search.json``, written last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    kind: Kind
    settings: dict[str, float]
    similarity: str = "cosine: inner product of L2-normalised features"
    features: str = "trunk after global average pooling, averaged over the views of a sample"
    encoder: str
    encoder_sha256: str
    shards: str
    dataset: str
    manifest_sha256: str
    split: str | None
    clips: int
    crops: int
    frames: int
    seconds: float
    size: int
    samples: int
    missing_samples: tuple[str, ...]
    files: dict[str, str]  # name -> sha256


@dataclass(frozen=True)
class BuildRequest:
    """What to index."""

    encoder: Path
    shards: str
    split: str | None = None  # None = all samples
    kind: Kind | None = None  # None = by the number of samples
    clips: int = 10
    crops: int = 3
    size: int | None = None
    workers: int = 2


def build_index(request: BuildRequest, out: Path) -> Protocol:
    """Index a set; writes ``index.faiss``, ``rows.parquet`` and ``search.json`` into ``out``.

    Raises:
        UsageError: FAISS is missing, or encoder, set and split do not go together.
        SceVideoError: no sample can be read, or the features are not finite.
    """
    load_faiss()  # missing? rather now than after hours
    trunk, spec = load_encoder(request.encoder)
    index = open_set(request.shards)
    check_media(index, spec, request.encoder)
    rows = index.rows(request.split)
    views = eval_views(spec, request.clips, request.crops, request.size)
    found = _embed(trunk, spec, index, rows, views, request.workers)
    if len(found.rows) == 0:
        raise SceVideoError(f"{index.name}: no sample can be read")
    nearest, order = build(found.values.numpy(), request.kind)
    out.mkdir(parents=True, exist_ok=True)
    write_index(out / VECTORS_NAME, nearest.index)
    _write_rows(out / ROWS_NAME, index, found.rows[order])
    protocol = Protocol(
        kind=nearest.kind,
        settings=nearest.settings,
        encoder=str(_file(request.encoder).resolve()),
        encoder_sha256=sha256_file(_file(request.encoder)),
        shards=request.shards,
        dataset=index.manifest.dataset,
        manifest_sha256=index.digest,
        split=request.split,
        clips=views.clips or 1,
        crops=views.crops,
        frames=views.frames,
        seconds=views.seconds,
        size=views.size,
        samples=len(found.rows),
        missing_samples=tuple(f"{name}: {reason}" for name, reason in found.missing),
        files={name: sha256_file(out / name) for name in (VECTORS_NAME, ROWS_NAME)},
    )
    write_atomic(out / PROTOCOL_NAME, protocol.model_dump_json(indent=1).encode())
    return protocol


def _file(encoder: Path) -> Path:
    return encoder / ENCODER_NAME if encoder.is_dir() else encoder


def _embed(
    trunk: nn.Module,
    spec: EncoderSpec,
    index: ShardIndex,
    rows: NDArray[np.int64],
    views: UniformClips,
    workers: int,
) -> Features:
    found = extract(
        {"encoder": trunk},
        index,
        rows,
        views,
        mean=spec.mean,
        std=spec.std,
        workers=workers,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )["encoder"]
    if not found.values.isfinite().all():
        raise SceVideoError(f"{index.name}: features that are not finite; is the encoder sound?")
    return found


def _write_rows(path: Path, index: ShardIndex, rows: NDArray[np.int64]) -> None:
    """One line a vector, in their order: the row of the set's index and what it says of it."""
    table = index.table.take(pa.array(rows))
    columns = {name: table.column(name) for name in ("shard", "key", "label", "class", "path")}
    columns["label"] = columns["label"].cast(pa.int64())
    write_index_table(path, pa.table({"row": rows, **columns}))


@dataclass(frozen=True)
class SearchIndex:
    """An index opened for queries."""

    folder: Path
    protocol: Protocol
    nearest: Nearest
    rows: pa.Table

    @classmethod
    def open(cls, folder: Path) -> SearchIndex:
        """Open what :func:`build_index` left; every file's sha256 is checked before it is parsed.

        Raises:
            UsageError: no index there, or FAISS is missing.
            VerificationError: damaged.
        """
        load_faiss()
        path = folder / PROTOCOL_NAME
        if not path.is_file():
            raise UsageError(f"{folder}: no {PROTOCOL_NAME}; make an index: sce-video search build")
        try:
            protocol = Protocol.model_validate_json(path.read_bytes())
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise VerificationError(f"{path}: damaged, or of another version: {reason}") from error
        for name in (VECTORS_NAME, ROWS_NAME):
            file = folder / name
            if not file.is_file() or sha256_file(file) != protocol.files.get(name):
                raise VerificationError(
                    f"{file}: not the one that {PROTOCOL_NAME} names; build again"
                )
        nearest = Nearest(read_index(folder / VECTORS_NAME), protocol.kind, protocol.settings)
        return cls(folder, protocol, nearest, pq.read_table(folder / ROWS_NAME))

    def query_file(self, file: Path, encoder: Path | None, top: int) -> list[dict[str, Any]]:
        """The nearest samples of a video's or an image's file; see :meth:`query_key`."""
        trunk, spec = self._encoder(encoder)
        try:
            data = file.read_bytes()
            clips = make_clips(data, self._views(spec)(facts(data), 0, 0))
        except DecodeError as error:
            raise UsageError(f"{file}: {error}") from error
        views = [clip[None] for clip in clips]
        found = forward({"": trunk}, views, spec.mean, spec.std, torch.device("cpu"))[""]
        return self._nearest(mean_of_views(found)[0].numpy(), top)

    def query_key(
        self, key: str, encoder: Path | None, shards: str | None, top: int
    ) -> list[dict[str, Any]]:
        """The nearest other samples of a sample of the set, indexed or not.

        Args:
            key: of the sample.
            encoder: where the index's encoder lies now; None = where it lay.
            shards: where the set lies now; None = where it lay.
            top: how many.

        Returns:
            Dicts of rank (from 1), score (cosine), row, shard, key, label, class and path,
            nearest first.

        Raises:
            UsageError: no such key, or another encoder or set than the index's.
            SceVideoError: the sample cannot be read.
        """
        own = pc.index(self.rows.column("key"), key).as_py()
        if own >= 0:
            if self.protocol.kind == "ivf":
                self.nearest.index.make_direct_map()
            return self._nearest(self.nearest.index.reconstruct(own), top, own)
        index = open_set(shards or self.protocol.shards)
        if index.digest != self.protocol.manifest_sha256:
            raise UsageError(f"{index.name}: not the set that {self.folder} was built of")
        row = pc.index(index.table.column("key"), key).as_py()
        if row < 0:
            raise UsageError(f"{index.name}: no sample with key '{key}'")
        trunk, spec = self._encoder(encoder)
        found = _embed(trunk, spec, index, np.array([row]), self._views(spec), 0)
        if found.missing:
            raise SceVideoError(f"{found.missing[0][0]}: {found.missing[0][1]}")
        return self._nearest(found.values[0].numpy(), top)

    def _encoder(self, given: Path | None) -> tuple[nn.Module, EncoderSpec]:
        file = _file(given or Path(self.protocol.encoder))
        if not file.is_file():
            raise UsageError(f"{file}: the index's encoder is not there; say where: --encoder")
        if sha256_file(file) != self.protocol.encoder_sha256:
            raise UsageError(
                f"{file}: not the encoder that {self.folder} was built with "
                f"(sha256 {self.protocol.encoder_sha256[:12]}...); build again, or give that one"
            )
        return load_encoder(file)

    def _views(self, spec: EncoderSpec) -> UniformClips:
        return eval_views(spec, self.protocol.clips, self.protocol.crops, self.protocol.size)

    def _nearest(
        self, vector: NDArray[np.float32], top: int, own: int | None = None
    ) -> list[dict[str, Any]]:
        places, cosines = self.nearest.search(vector, top + (own is not None))
        kept = [(p, c) for p, c in zip(places, cosines, strict=True) if p != own][:top]
        lines = self.rows.take([place for place, _ in kept]).to_pylist()
        return [
            {"rank": rank, "score": round(cosine, 6), **line}
            for rank, ((_, cosine), line) in enumerate(zip(kept, lines, strict=True), 1)
        ]
