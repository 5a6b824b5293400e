"""What the network gives an objective, and what the trainer asks of one.

Shapes: B a rank's micro-batch, W ranks, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sce_video.objectives.gather import current_rank
from sce_video.objectives.memory import Queue
from sce_video.objectives.similarity import Parts

PairLoss = Callable[..., tuple[Tensor, Parts]]


@dataclass
class Embeddings:
    """A micro-batch, L2-normalised, by the number of the view (of CMC: of the stream)."""

    queries: dict[int, Tensor]  # online branch [B,D], behind the predictor if there is one
    projections: dict[int, Tensor]  # online branch [B,D], before the predictor
    keys: dict[int, Tensor]  # momentum branch [B,D]; empty without one
    rows: NDArray[np.int64]  # [B] of the samples in the shard set's index
    epochs: NDArray[np.int64]  # [B]
    remembered: dict[int, Tensor] = field(default_factory=dict)
    """``[W*B,D]`` of all ranks, rank-major: what :meth:`Objective.remember` will get."""


class Objective(nn.Module):
    """A loss and its memory, for the trainer."""

    momentum = True  # whether keys come from a momentum encoder

    key_views = 2  # views, the first ones, that are embedded as keys: the global ones of multi-crop

    symmetric = True  # whether every view is a query; else all but the first

    def start_step(self, step: int) -> None:
        """Before optimizer step ``step`` (0-based): move what follows a schedule."""

    def to_remember(self, embeddings: Embeddings) -> dict[int, Tensor]:
        """What the memory takes of a micro-batch ``[B,D]``: the keys."""
        return embeddings.keys

    def forward(self, embeddings: Embeddings) -> tuple[Tensor, Parts]:
        """Scalar loss, mean over the micro-batch, and detached scalars to log."""
        raise NotImplementedError

    def remember(self, remembered: Tensor, rows: Tensor) -> None:
        """After the optimizer step, once: ``remembered [views, n, D]`` and their ``rows [n]``."""


class Pairwise(Objective):
    """Mean of a loss over the ordered pairs of a key's view and another view's query.

    With G key views and V views in all that is ``1 / (G * (V - 1))`` of the sum (SCE's symmetric
    loss, and multi-crop); asymmetric: the key of view 0 for the queries of the others. One
    snapshot of the queue serves all pairs.
    """

    def __init__(
        self,
        loss: PairLoss,
        queue: Queue | None = None,
        *,
        gather_keys: bool = False,
        symmetric: bool = True,
        scale: float = 1.0,
    ) -> None:
        """Take a pure loss with its settings bound.

        Args:
            loss: ``(q, k, queue, keys, rank) -> (loss, parts)``, as ``sce_loss``.
            queue: None where the keys of the batch are all the candidates.
            gather_keys: the keys of all ranks are candidates; else a query's own key alone.
            symmetric: as :attr:`Objective.symmetric`.
            scale: of the mean; 2 where the published loss is the sum of both directions.
        """
        super().__init__()
        self.loss, self.queue = loss, queue
        self.gather_keys, self.symmetric, self.scale = gather_keys, symmetric, scale
        self.key_views = 2 if symmetric else 1

    def pair(self, embeddings: Embeddings, i: int, j: int, **more: Tensor) -> tuple[Tensor, Parts]:
        """Loss of the queries of view ``j`` against the keys of view ``i``; it takes ``more``."""
        q, k = embeddings.queries[j], embeddings.keys[i]
        keys = embeddings.remembered[i] if self.gather_keys else None
        queue = None if self.queue is None else self.queue.keys
        return self.loss(q, k, queue, keys, current_rank(), **more)

    def forward(self, embeddings: Embeddings) -> tuple[Tensor, Parts]:
        """See :class:`Objective`."""
        pairs = [(i, j) for i in embeddings.keys for j in embeddings.queries if i != j]
        losses, parts = zip(*(self.pair(embeddings, i, j) for i, j in pairs), strict=True)
        return self.scale * torch.stack(losses).mean(), mean_parts(parts)

    def remember(self, remembered: Tensor, rows: Tensor) -> None:
        """Enqueue the keys of all views, view by view."""
        if self.queue is not None:
            self.queue.enqueue(remembered.flatten(0, 1))


def mean_parts(parts: Sequence[Parts]) -> Parts:
    """Scalars averaged name by name."""
    return {name: torch.stack([p[name] for p in parts]).mean() for name in parts[0]}
