"""``search``: an index of a shard set's samples, asked with a file or with a sample of the set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sce_video.documents import DocumentError, read_json
from sce_video.errors import SceVideoError, UsageError, VerificationError
from sce_video.evals.faiss_index import Kind, Nearest, build, load_faiss, read_index, write_index
from sce_video.evals.features import Features, check_finite, extract, forward
from sce_video.evals.kept import ROWS_NAME
from sce_video.evals.request import Request
from sce_video.evals.sample_table import read_sample_table, sample_table
from sce_video.evals.views import LIMITS, eval_views, mean_of_views
from sce_video.files import sha256_file, write_whole
from sce_video.model.weights import OpenedEncoder, encoder_file, open_encoder
from sce_video.shardset.index import write_table
from sce_video.stream.clips import UniformClips
from sce_video.stream.cut import make_clips
from sce_video.stream.reader import open_set
from sce_video.stream.remote.files import on_this_machine
from sce_video.stream.watch import sample_limit
from sce_video.text import printable
from sce_video.video.decode import DecodeError
from sce_video.video.limits import read_media
from sce_video.video.peek import peek

PROTOCOL_NAME = "search.json"
VECTORS_NAME = "index.faiss"


class SearchProtocol(BaseModel):
    """What an index holds and how it was made: ``search.json``, written last."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    kind: Kind
    settings: dict[str, float]
    similarity: str = "cosine: inner product of L2-normalised features"
    features: str = "trunk after global average pooling, averaged over the views of a sample"
    encoder: str
    encoder_part: str | None = None  # prefix of its tensors' names; None = the file's only encoder
    encoder_sha256: str | None = None  # None = fresh weights
    encoder_seed: int | None = None
    shards: str
    dataset: str
    manifest_sha256: str
    split: str | None
    clips: int = Field(ge=1, le=LIMITS["clips"])
    crops: int = Field(ge=1, le=LIMITS["crops"])
    frames: int = Field(ge=1, le=LIMITS["frames"])
    seconds: float = Field(ge=0, le=LIMITS["seconds"])
    size: int = Field(ge=1, le=LIMITS["size"])
    samples: int = Field(ge=1)
    missing_samples: tuple[str, ...]
    files: dict[str, str]  # name -> sha256


def build_index(out: Path, request: Request, found: Features, kind: Kind | None) -> SearchProtocol:
    """Index features; writes ``index.faiss``, ``rows.parquet`` and ``search.json`` into ``out``.

    Args:
        out: a folder, made if it is not there.
        request: what the features are of.
        found: the features; normalised and reordered in place.
        kind: None = by the number of samples.

    Raises:
        UsageError: FAISS is missing, or too few samples for this kind.
        SceVideoError: no sample could be read.
    """
    index = request.index
    if len(found.rows) == 0:
        raise SceVideoError(f"{index.name}: no sample can be read")
    nearest, order = build(found.values.numpy(), kind)
    out.mkdir(parents=True, exist_ok=True)
    write_index(out / VECTORS_NAME, nearest.index)
    write_table(out / ROWS_NAME, sample_table(index, found.rows[order]))
    fields = SearchProtocol.model_fields.keys() - {"features"}  # whose words are others here
    told = {name: value for name, value in request.protocol().items() if name in fields}
    if file := request.encoder.file:  # found from other folders, too
        part = request.encoder.part or None
        told |= {"encoder": printable(str(file.resolve())), "encoder_part": part}
    protocol = SearchProtocol(
        kind=nearest.kind,
        settings=nearest.settings,
        **told,
        split=request.split,
        clips=request.views.clips,
        crops=request.views.crops,
        samples=len(found.rows),
        missing_samples=tuple(found.missing_lines),
        files={name: sha256_file(out / name) for name in (VECTORS_NAME, ROWS_NAME)},
    )
    write_whole(out / PROTOCOL_NAME, protocol.model_dump_json(indent=1).encode())
    return protocol


def _read_protocol(folder: Path) -> SearchProtocol:
    path = folder / PROTOCOL_NAME
    if not path.is_file():
        raise UsageError(f"{folder}: no {PROTOCOL_NAME}; make an index: sce-video search build")
    try:
        return SearchProtocol.model_validate(read_json(path, dict))
    except DocumentError as error:
        raise VerificationError(f"{path}: damaged: {error}; build again") from error
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise VerificationError(
            f"{path}: damaged, or of another version: {reason}; build again"
        ) from error


@dataclass(frozen=True)
class SearchIndex:
    """An index opened for queries."""

    folder: Path
    protocol: SearchProtocol
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
        protocol = _read_protocol(folder)
        for file in (folder / VECTORS_NAME, folder / ROWS_NAME):
            try:
                same = sha256_file(file, follow=False) == protocol.files.get(file.name)
            except OSError as error:
                raise VerificationError(f"{file}: {error.strerror}; build again") from error
            if not same:
                raise VerificationError(
                    f"{file}: not the one that {PROTOCOL_NAME} names; build again"
                )
        index = read_index(folder / VECTORS_NAME, protocol.kind)
        if index.ntotal != protocol.samples:
            raise VerificationError(
                f"{folder}: {index.ntotal} vectors of {protocol.samples} samples; build again"
            )
        rows = read_sample_table(folder / ROWS_NAME, protocol.samples)
        return cls(folder, protocol, Nearest(index, protocol.kind, protocol.settings), rows)

    def query_file(self, file: Path, encoder: str | None, top: int) -> list[dict[str, Any]]:
        """The nearest samples of a video's or an image's file; see :meth:`query_key`."""
        if not file.is_file():
            raise UsageError(f"{file}: no such file")
        opened, views = self._encoder(encoder)
        try:
            data = read_media(file)
            with sample_limit(str(file)):
                clips = make_clips(data, views(peek(data), 0, 0))
        except DecodeError as error:
            raise UsageError(f"{file}: {error}") from error
        inputs = [clip[None] for clip in clips]
        found = forward(opened.trunk, opened.spec, inputs, torch.device("cpu"))
        check_finite(found, lambda _: [str(file)], f"{opened.name}: gives")
        return self._nearest(mean_of_views(found)[0].numpy(), top)

    def query_key(
        self, key: str, encoder: str | None, shards: str | None, top: int
    ) -> list[dict[str, Any]]:
        """The nearest other samples of a sample of the set, indexed or not.

        Args:
            key: of the sample.
            encoder: where the index's encoder lies now; None = where it lay.
            shards: where the set lies now; None = where it lay, if that is on this machine.
            top: how many.

        Returns:
            Dicts of rank (from 1), score (cosine), row, shard, key, label, class and path,
            nearest first.

        Raises:
            UsageError: no such key, or another encoder or set than the index's.
            SceVideoError: the sample cannot be read, or its feature is not finite.
        """
        key = printable(key)  # those of a set are; a table takes no others
        own = pc.index(self.rows.column("key"), key).as_py()
        if own >= 0:
            if self.protocol.kind == "ivf":
                self.nearest.index.make_direct_map()
            return self._nearest(self.nearest.index.reconstruct(own), top, own)
        near, hint = self.protocol.shards, "give --shards URL to read the sample there"
        index = open_set(shards or on_this_machine(near, self.folder, hint))
        if index.digest != self.protocol.manifest_sha256:
            raise UsageError(f"{index.name}: not the set that {self.folder} was built of")
        row = pc.index(index.table.column("key"), key).as_py()
        if row < 0:
            raise UsageError(f"{index.name}: no sample with key '{key}'")
        opened, views = self._encoder(encoder)
        rows, name = np.array([row]), opened.name
        found = extract(opened.trunk, opened.spec, index, rows, views, name=name)
        if found.missing:
            raise SceVideoError(found.missing_lines[0])
        return self._nearest(found.values[0].numpy(), top)

    def _encoder(self, given: str | None) -> tuple[OpenedEncoder, UniformClips]:
        """The index's encoder, and the views that it was made of."""
        location = given or self.protocol.encoder
        _, file, part = encoder_file(location)
        if part is None and self.protocol.encoder_part:
            location = f"{location}#{self.protocol.encoder_part}"
        if file and not file.is_file():
            raise UsageError(f"{file}: the index's encoder is not there; say where: --encoder")
        sha256 = sha256_file(file) if file else None  # checked before the file is parsed
        known = self.protocol.encoder_sha256
        if sha256 != known or (file is None and location != self.protocol.encoder):
            which = f"sha256 {known[:12]}..." if known else self.protocol.encoder
            raise UsageError(
                f"{file or location}: not the encoder that {self.folder} was built with "
                f"({which}); build again, or give that one"
            )
        encoder = open_encoder(location, self.protocol.encoder_seed or 0)
        made = self.protocol
        if made.encoder_part and encoder.part != made.encoder_part:
            raise UsageError(f"{location}: {self.folder} is of its part #{made.encoder_part}")
        spec = encoder.spec.model_copy(update={"frames": made.frames, "seconds": made.seconds})
        return encoder, eval_views(spec, made.clips, made.crops, made.size)

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
