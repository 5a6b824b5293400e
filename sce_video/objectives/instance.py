"""Instance discrimination against a bank of one vector per training sample (IR, Wu et al. 2018;
CMC, Tian et al. 2020), with negatives from the whole bank or from a ring (Wu et al. 2021).

Shapes: N local batch, D embedding width, S samples in the bank, R negatives drawn a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sce_video.objectives.base import Embeddings, Objective, PairLoss, mean_parts
from sce_video.objectives.memory import Bank
from sce_video.objectives.ring import Ring
from sce_video.objectives.similarity import Parts, Similarities, contrast, full_precision
from sce_video.stream.draws import uniforms


def instance_loss(
    q: Tensor,
    bank: Tensor,
    rows: Tensor,
    draws: Tensor,
    *,
    temp: float = 0.07,
    ring: Ring | None = None,
) -> tuple[Tensor, Parts]:
    """The sample's own row of the bank against rows drawn at random: ``-pos + lse(pos, drawn)``.

    Args:
        q: online embeddings ``[N,D]``, L2-normalised; the only input that gets a gradient.
        bank: past embeddings ``[S,D]``, unit rows.
        rows: the samples' rows in the bank ``[N]``, int64.
        draws: uniform numbers in [0,1) ``[N,R]``: number u picks candidate ``int(u * candidates)``,
            with replacement, of the bank's rows, or of the ring's, nearest first.
        temp: temperature, > 0.
        ring: the band of the bank, by similarity to the query, that is drawn from; None = all.

    Returns:
        ``(loss, parts)``; parts: ``infonce``, ``positive``, ``negative`` (of what was drawn),
        ``top1``.

    Raises:
        ValueError: shapes that do not fit each other, or an empty ring.
    """
    if bank.shape[1] != q.shape[1] or rows.shape != q.shape[:1] or len(draws) != len(q):
        raise ValueError(
            f"queries {tuple(q.shape)}, bank {tuple(bank.shape)}, rows {tuple(rows.shape)} and "
            f"draws {tuple(draws.shape)} do not fit each other"
        )
    with full_precision(q) as dtype:
        scaled, bank = q.to(dtype) / temp, bank.detach().to(dtype)
        positive_N = (scaled * bank[rows]).sum(1)
        drawn = None
        if ring is not None:
            drawn = ring.select(scaled.detach() @ bank.T)
        candidates = len(bank) if drawn is None else drawn.shape[1]
        # In float32 a number just below 1 times the candidates may round up to them.
        picks = (draws.double() * candidates).long().clamp_(max=candidates - 1)
        columns = picks if drawn is None else drawn.gather(1, picks)
        drawn_NR = torch.einsum("nd,nrd->nr", scaled, bank[columns])
        return contrast(Similarities(positive_N, drawn_NR), temp)


class InstanceContrast(Objective):
    """:func:`instance_loss` for the trainer; no momentum encoder.

    With one bank (IR) view 0 meets its own bank; with two (CMC) the embedding of each stream meets
    the other's bank, and the loss is the sum. The banks take the embeddings after the step. Draws
    are a function of (seed, epoch, sample), whatever the ranks.
    """

    momentum = False

    def __init__(self, loss: PairLoss, banks: Sequence[Bank], drawn: int, seed: int) -> None:
        """``loss``: :func:`instance_loss` with its settings bound; ``drawn``: rows for a query."""
        super().__init__()
        self.banks = nn.ModuleList(banks)
        self.loss, self._drawn, self._seed = loss, drawn, seed

    def to_remember(self, embeddings: Embeddings) -> dict[int, Tensor]:
        """The online embeddings."""
        return embeddings.queries

    def forward(self, embeddings: Embeddings) -> tuple[Tensor, Parts]:
        """See :class:`~sce_video.objectives.base.Objective`."""
        losses, parts = [], []
        for stream, q in embeddings.queries.items():
            bank = self.banks[len(self.banks) - 1 - stream].get_buffer("vectors")
            rows = torch.from_numpy(embeddings.rows).to(q.device, non_blocking=True)
            draws = self._draws(embeddings, stream).to(q.device, non_blocking=True)
            loss, found = self.loss(q, bank, rows, draws)
            losses.append(loss)
            parts.append(found)
        return torch.stack(losses).sum(), mean_parts(parts)

    def _draws(self, embeddings: Embeddings, stream: int) -> Tensor:
        samples = zip(embeddings.epochs, embeddings.rows, strict=True)
        draws = [
            uniforms(self._seed, int(epoch), int(row), stream, "negatives", self._drawn)
            for epoch, row in samples
        ]
        return torch.from_numpy(np.stack(draws))

    def remember(self, remembered: Tensor, rows: Tensor) -> None:
        """See :class:`~sce_video.objectives.base.Objective`."""
        for bank, vectors in zip(self.banks, remembered, strict=True):
            cast(Bank, bank).update(rows, vectors)
