"""Ring: conditional negative sampling (Wu et al., ICLR 2021).

Only negatives whose similarity to the query lies in a band count: near enough to be hard, but not
the very nearest, which are likely of the query's own class.

Shapes: N local batch, W ranks, D embedding width, K queue length, M candidates, R of the ring.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sce_video.objectives.base import PairLoss, Pairwise
from sce_video.objectives.memory import Queue
from sce_video.objectives.similarity import Parts, full_precision, lse_and_mean, similarities, state

Anneal = Literal["linear", "step", "exponential"]


class Ring(NamedTuple):
    """The band of candidates, as fractions of them in order of falling similarity.

    With M candidates the ring is positions ``[inner_index, outer_index)``, where ``outer_index =
    int(outer * M)`` and ``inner_index = int(inner * outer_index)``, or ``int(inner * M)`` without
    ``dynamic_inner``.
    """

    outer: float = 0.1  # in (0,1]; 1 = no outer cut
    inner: float = 0.1  # in [0,1); 0 = no inner cut, a ball
    dynamic_inner: bool = True

    def bounds(self, candidates: int) -> tuple[int, int]:
        """``(inner_index, outer_index)``.

        Raises:
            ValueError: nothing is left between them.
        """
        outer = int(self.outer * candidates)
        inner = int(self.inner * (outer if self.dynamic_inner else candidates))
        if not 0 <= inner < outer <= candidates:
            raise ValueError(
                f"the ring from {self.inner} to {self.outer} of {candidates} candidates is empty"
            )
        return inner, outer

    @torch.no_grad()
    def select(self, others_NM: Tensor) -> Tensor | None:
        """Columns ``[N,R]`` of the ring of each row, nearest first; None = all of them."""
        inner, outer = self.bounds(others_NM.shape[1])
        if (inner, outer) == (0, others_NM.shape[1]):
            return None
        return others_NM.topk(outer, dim=1).indices[:, inner:]


def ring_loss(
    q: Tensor,
    k: Tensor,
    queue: Tensor | None = None,
    keys: Tensor | None = None,
    rank: int = 0,
    *,
    temp: float = 0.07,
    outer: float = 0.1,
    inner: float = 0.1,
    dynamic_inner: bool = True,
    self_negative: bool = True,
    neighbor_views: bool = False,
    ball: bool = False,
) -> tuple[Tensor, Parts]:
    """MoCo whose negatives are the ring of each query: ``-pos + lse(pos, ring)``.

    ``outer=1, inner=0`` is :func:`~sce_video.objectives.infonce.info_nce_loss`. Arguments, shapes,
    precision and errors as there; selection uses values only, gradients flow to the query through
    what was selected.

    Args:
        outer, inner, dynamic_inner: of :class:`Ring`.
        self_negative: the positive is in the denominator.
        neighbor_views: what the inner cut leaves out joins the positive in the numerator, as in
            local aggregation.
        ball: no inner cut; ``inner`` then only says what joins the numerator, and is counted, as
            in the published code, among the positive and the ball.

    Returns:
        ``(loss, parts)``; parts: ``infonce``, ``positive``, ``negative`` (of the ring), ``top1``
        (among all candidates).
    """
    ring = Ring(outer, inner, dynamic_inner)
    with full_precision(q) as dtype:
        logits = similarities(q.to(dtype) / temp, k, queue, keys, rank)
        inner_index, outer_index = ring.bounds(logits.others.shape[1])
        # Sorted, because the ring is a range of places.
        nearest_NM = logits.others.topk(outer_index, dim=1).values
        positive_N1 = logits.positive[:, None]
        ring_NR = nearest_NM if ball else nearest_NM[:, inner_index:]
        denominator = torch.cat([positive_N1, ring_NR], 1) if self_negative else ring_NR
        numerator = positive_N1
        if neighbor_views:
            if ball:
                pool = denominator if dynamic_inner else logits.others
                count = int(inner * pool.shape[1])
                inner_NM = pool.topk(count, dim=1).values
            else:
                inner_NM = nearest_NM[:, :inner_index]
            numerator = torch.cat([positive_N1, inner_NM], 1)
        loss = (lse_and_mean(denominator).lse - numerator.logsumexp(1)).mean()
        top_N = nearest_NM.detach()[:, 0]
        parts = state(logits._replace(others=ring_NR.detach()), top_N, temp)
        return loss, {"infonce": loss.detach(), **parts}


def annealed_outer(step: int, steps: int, shape: Anneal) -> float:
    """Outer fraction at a 0-based step: from 1 to 0.1 over ``steps`` steps, then 0.1.

    ``linear``: evenly; ``step``: 1, 0.9, ..., 0.1 in equal stretches; ``exponential``:
    ``0.1 + 0.9 * exp(-0.1 * step)``.
    """
    if step >= steps:
        return 0.1
    if shape == "linear":
        return 1 - 0.9 * step / max(steps - 1, 1)
    if shape == "step":
        return 1 - (10 * step // steps) / 10
    return 0.1 + 0.9 * math.exp(-0.1 * step)


class RingContrast(Pairwise):
    """:func:`ring_loss` for the trainer, with an outer cut that may follow the step."""

    def __init__(
        self,
        loss: PairLoss,
        queue: Queue | None,
        outer: Callable[[int], float] | None,
        *,
        symmetric: bool = True,
    ) -> None:
        """``loss``: :func:`ring_loss` with its settings bound; ``outer``: the cut of each step."""
        super().__init__(loss, queue, symmetric=symmetric)
        self._ring_loss, self._outer = loss, outer

    def start_step(self, step: int) -> None:
        """See :class:`~sce_video.objectives.base.Objective`."""
        if self._outer:
            self.loss = partial(self._ring_loss, outer=self._outer(step))
