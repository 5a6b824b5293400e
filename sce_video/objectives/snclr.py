"""SNCLR, contrast with soft neighbours (Ge et al., ICLR 2023).

Shapes: N local batch, W ranks, D embedding width, K queue length, n neighbours an item.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from sce_video.objectives.base import Embeddings, Pairwise
from sce_video.objectives.gather import gather
from sce_video.objectives.memory import Queue
from sce_video.objectives.similarity import Parts, check, dot, full_precision, lse_and_mean

Form = Literal["sum_log", "log_sum"]


@torch.no_grad()
def nearest(k: Tensor, queue: Tensor, topk: int) -> Tensor:
    """Columns ``[N,topk]`` of the ``queue [D,K]`` that are nearest to keys ``[N,D]``."""
    if topk > queue.shape[1]:
        raise ValueError(f"topk {topk} of a queue of {queue.shape[1]}")
    return (k.to(queue.dtype) @ queue).topk(topk, dim=1).indices


def snclr_loss(
    q: Tensor,
    k: Tensor,
    queue: Tensor,
    keys: Tensor | None = None,
    rank: int = 0,
    *,
    projection: Tensor,
    neighbours: Tensor | None = None,
    topk: int = 30,
    temp: float = 0.2,
    form: Form = "sum_log",
    threshold: bool = False,
    detach_weights: bool = False,
) -> tuple[Tensor, Parts]:
    """Own key and its nearest neighbours are positives; those of the other items are negatives.

    The own key's weight is 1; the neighbours share 1 by how alike they are to the query's own
    projection (softmax, temperature 1; as in the published code, nothing is learned there).

    Args:
        q, k: online and momentum embeddings ``[N,D]``, L2-normalised.
        queue: past keys ``[D,K]``, unit columns, among which neighbours are looked for.
        keys: keys of all ranks ``[W*N,D]``, rank-major; None = one rank.
        rank: this rank, which places the positives in ``keys``.
        projection: the online projector's output ``[N,D]``, L2-normalised; it gets a gradient, too.
        neighbours: columns ``[W*N,topk]`` of the queue for each of ``keys``; None = found here.
        topk: neighbours an item.
        temp: temperature, > 0.
        form: ``sum_log`` as the published code: ``2 * temp * sum_c w_c * -log p_c``; ``log_sum`` as
            the paper: ``-log sum_c w_c * p_c``.
        threshold: weights of at most ``1 / topk`` become 0 (the rest is not rescaled).
        detach_weights: no gradient through the weights.

    Returns:
        ``(loss, parts)``; parts: ``infonce`` (own key), ``positive``, ``neighbour``, ``top1``.

    Raises:
        ValueError: shapes that do not fit, or ``topk`` above K.
    """
    keys = k if keys is None else keys
    check(q, k, queue, keys, rank)
    with full_precision(q) as dtype:
        queue, keys = queue.detach().to(dtype), keys.detach().to(dtype)
        columns = nearest(keys, queue, topk) if neighbours is None else neighbours
        n, scaled = len(q), q.to(dtype) / temp
        key_logits = scaled @ keys.T
        queue_logits = scaled @ queue  # a column counts as often as it is a neighbour
        counts_K = queue.new_zeros(queue.shape[1])
        counts_K.index_add_(0, columns.flatten(), counts_K.new_ones(columns.numel()))
        near_lse_N = lse_and_mean(queue_logits + counts_K.log()).lse
        lse_N = torch.logaddexp(lse_and_mean(key_logits).lse, near_lse_N)
        own = torch.arange(n, device=q.device) + n * rank
        own_near = queue_logits.gather(1, columns[own])
        weights = _positiveness(projection.to(dtype), queue.T[columns[own]], threshold)
        weights = F.pad(weights.detach() if detach_weights else weights, (1, 0), value=1.0)
        log_p = torch.cat([key_logits.gather(1, own[:, None]), own_near], 1) - lse_N[:, None]
        loss = _weighted(weights, log_p, temp, form)
        return loss, _parts(log_p, key_logits * temp, own, own_near * temp)


def _positiveness(projection: Tensor, near: Tensor, threshold: bool) -> Tensor:
    """Weights ``[N,n]`` of the own neighbours ``[N,n,D]``; sums are 1, or less by a threshold."""
    weights = torch.einsum("nd,nkd->nk", projection, near).softmax(1)
    return weights.masked_fill(weights <= 1 / near.shape[1], 0.0) if threshold else weights


def _weighted(weights: Tensor, log_p: Tensor, temp: float, form: Form) -> Tensor:
    if form == "sum_log":
        return 2 * temp * -dot(weights, log_p).mean()
    return -(weights.log() + log_p).logsumexp(1).mean()


@torch.no_grad()
def _parts(log_p: Tensor, keys_NM: Tensor, own: Tensor, near_Nn: Tensor) -> Parts:
    positive_N = keys_NM.gather(1, own[:, None])[:, 0]
    rivals_N = keys_NM.scatter(1, own[:, None], float("-inf")).amax(1)
    return {
        "infonce": -log_p[:, 0].mean(),
        "positive": positive_N.mean(),
        "neighbour": near_Nn.mean(),
        "top1": (positive_N > rivals_N).to(log_p.dtype).mean(),
    }


class SNCLR(Pairwise):
    """:func:`snclr_loss` for the trainer: the sum of both directions, as published.

    The queue takes the keys of view 1 only, after the step, and is the same on every rank (in the
    published code each rank has its own).
    """

    def __init__(self, queue: Queue, *, topk: int, **settings: Any) -> None:
        """``settings``: of :func:`snclr_loss`."""
        loss = partial(snclr_loss, topk=topk, **settings)
        super().__init__(loss, queue, gather_keys=True, scale=2.0)
        self._topk = topk

    def pair(self, embeddings: Embeddings, i: int, j: int, **more: Tensor) -> tuple[Tensor, Parts]:
        """With the query's projection, and the neighbours that each rank found for its own keys."""
        past = cast(Queue, self.queue).keys
        found = gather(nearest(embeddings.keys[i], past, self._topk))
        projection = embeddings.projections[j]
        return super().pair(embeddings, i, j, projection=projection, neighbours=found, **more)

    def remember(self, remembered: Tensor, rows: Tensor) -> None:
        """See :class:`~sce_video.objectives.base.Objective`."""
        super().remember(remembered[1:2], rows)
