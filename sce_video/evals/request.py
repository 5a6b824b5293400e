"""Which samples' features or scores, from which network and views: what a kept file answers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sce_video.evals.features import cut
from sce_video.model.weights import OpenedEncoder
from sce_video.shardset.index import ShardIndex
from sce_video.shardset.labels import match_classes
from sce_video.stream.clips import UniformClips
from sce_video.text import printable

_VERSION = 1  # raised when the same request gives other numbers than before
_FEATURES = {"features": "trunk after global average pooling"}
_SCORES = {"scores": "softmax of each view, then mean over the views of a sample"}


@dataclass(frozen=True)
class Request:
    """Features of a shard set's samples, or a classifier's scores of them."""

    encoder: OpenedEncoder  # or a classifier
    index: ShardIndex
    shards: str  # where the set lies, for the protocol
    split: str | None  # of the set; None = all of it
    views: UniformClips
    device: torch.device
    workers: int = 0
    classes: tuple[str, ...] = ()  # of a classifier, whose scores are meant

    @property
    def scores(self) -> bool:
        """Whether probabilities of a classifier's classes are meant, rather than features."""
        return bool(self.classes)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the index, ascending."""
        return self.index.rows(self.split, "without --split all are taken")

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Label of each row of the index, -1 = none; a classifier's by the names of its classes."""
        own, labels = self.index.manifest.classes, self.index.numbers("label").astype(np.int64)
        if not self.classes:
            return labels
        numbers = match_classes(self.index.name, own, self.classes, "the classifier", ())
        return np.array([*numbers, -1])[labels]

    @cached_property
    def batches(self) -> list[NDArray[np.int64]]:
        """The rows in batches, the same for any number of ranks."""
        return cut(self.rows, self.views)

    @cached_property
    def folder(self) -> Path:
        """Where exactly these features are kept; its name is a digest of all they depend on."""
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
        """Number format and kind of processor: those of other kinds round otherwise."""
        return f"float32 on {self.device.type}"

    def protocol(self) -> dict[str, Any]:
        """The extraction spelled out, so that figures are compared like with like."""
        pooled = "" if self.scores else ", features averaged"
        # Of names that are not UTF-8 nothing could be written.
        identity = {name: _text(value) for name, value in self.encoder.identity.items()}
        return {
            **identity,
            "shards": printable(self.shards),
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


def _text(value: str | int) -> str | int:
    return printable(value) if isinstance(value, str) else value
