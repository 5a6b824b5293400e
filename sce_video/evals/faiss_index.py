"""Nearest vectors by cosine, through FAISS (https://github.com/facebookresearch/faiss)."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sce_video.errors import UsageError, VerificationError, first_line
from sce_video.evals.faiss_layout import LayoutError, read_layout
from sce_video.files import whole_file

Kind = Literal["flat", "ivf"]

EXACT_BELOW = 1_000_000  # vectors: fewer are compared one by one if nothing else is asked for
# recall@10 that an approximate index is set to on a sample; 0.95 is what others may count on.
TARGET = 0.97
_LEAST = 1000  # vectors of an approximate index
_HELD = 256  # vectors that recall is measured with
_PER_LIST = 40  # vectors a list that k-means sees; FAISS warns below 39


@dataclass(frozen=True)
class Nearest:
    """A FAISS index of normalised vectors, and how it was set."""

    index: Any
    kind: Kind
    settings: dict[str, float]  # of ``ivf``: lists, nprobe and recall@10

    def search(self, query: NDArray[np.float32], k: int) -> tuple[list[int], list[float]]:
        """Rows and cosines of the k nearest of one vector ``[F]``, nearest first.

        Raises:
            VerificationError: the index is of vectors of another width.
        """
        if len(query) != self.index.d:
            raise VerificationError(
                f"the index is of {self.index.d} numbers a vector, the encoder gives {len(query)}; "
                "build again"
            )
        k = min(k, self.index.ntotal)
        unit = query[None] / max(float(np.linalg.norm(query)), 1e-12)
        cosines, rows = self.index.search(unit.astype(np.float32), k)
        kept = rows[0] >= 0  # fewer than k were found: FAISS fills up with -1
        return rows[0][kept].tolist(), cosines[0][kept].tolist()


def load_faiss() -> Any:
    """The ``faiss`` package.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise UsageError("search needs FAISS: pip install 'sce-video[faiss]'") from error


def build(
    vectors: NDArray[np.float32], kind: Kind | None = None
) -> tuple[Nearest, NDArray[np.int64]]:
    """Index vectors by cosine.

    An approximate index is set by what it finds for vectors that are not in it: nprobe is the least
    power of two that reaches :data:`TARGET`; then they are added, too.

    Args:
        vectors: ``[N,F]`` float32, contiguous; normalised and reordered in place: there may be
            gigabytes.
        kind: None = ``flat`` (exact) below :data:`EXACT_BELOW` vectors, else ``ivf``, with
            4 sqrt(N) lists, the least that FAISS's guidelines advise up to a million vectors.

    Returns:
        The index, and which of the given vectors each of its own is ``[N]``.

    Raises:
        UsageError: too few vectors for an approximate index.
    """
    faiss = load_faiss()
    count, width = vectors.shape
    kind = kind or ("flat" if count < EXACT_BELOW else "ivf")
    order = np.arange(count)
    faiss.normalize_L2(vectors)
    if kind == "flat":
        index = faiss.IndexFlatIP(width)
        index.add(vectors)
        return Nearest(index, kind, {}), order
    if count < _LEAST:
        raise UsageError(f"--kind ivf is for large sets; of {count} samples take flat")
    rng, start = np.random.default_rng(0), count - _HELD
    held = rng.choice(count, _HELD, replace=False)
    here, there = held[held < start], np.setdiff1d(order[start:], held)
    for array in (vectors, order):  # the held ones go to the end
        array[here], array[there] = array[there], array[here]
    lists = min(round(4 * math.sqrt(count)), start // _PER_LIST)
    index = faiss.index_factory(width, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[np.sort(rng.choice(start, lists * _PER_LIST, replace=False))])
    index.add(vectors[:start])
    reached = _tune(index, vectors[:start], vectors[start:])
    index.add(vectors[start:])
    settings = {"lists": lists, "nprobe": index.nprobe, "recall@10": reached}
    return Nearest(index, kind, settings), order


def _tune(index: Any, known: NDArray[np.float32], held: NDArray[np.float32]) -> float:
    """Set nprobe to the least power of two that will do; returns the recall of ``held``."""
    bank = torch.from_numpy(known)
    # Several times as fast as FAISS's own exact search of a batch.
    parts = [(part @ bank.T).topk(10) for part in torch.split(torch.from_numpy(held), 16)]
    exact = torch.cat([part.indices for part in parts]).numpy()
    index.nprobe = 1
    while True:
        reached = recall(index.search(held, 10)[1], exact)
        if reached >= TARGET or index.nprobe == index.nlist:
            return reached
        index.nprobe = min(2 * index.nprobe, index.nlist)


def recall(found: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    """Share of the true neighbours' rows ``[Q,k]`` that are among those found ``[Q,k]``."""
    return float((found[:, :, None] == exact[:, None, :]).any(1).mean())


def write_index(path: Path, index: Any) -> None:
    """Write a FAISS index.

    Raises:
        OSError: it cannot be written, which FAISS's own file does not say of a full disk.
    """
    faiss = load_faiss()
    with whole_file(path) as partial, partial.open("wb") as stream:
        faiss.write_index(index, faiss.PyCallbackIOWriter(stream.write))


def read_index(path: Path, kind: Kind) -> Any:
    """Read a FAISS index whose sha256 was checked, once its bytes are those of one of ours.

    Raises:
        VerificationError: they are not, or of another kind.
    """
    try:
        found, _, _ = read_layout(path)
        if found != kind:
            raise LayoutError(f"of kind {found}, not {kind}")
        return load_faiss().read_index(str(path))
    except (LayoutError, RuntimeError) as error:
        reason = first_line(error)
        raise VerificationError(f"{path}: no index of ours: {reason}; build again") from error
