"""SCE, Similarity Contrastive Estimation (Denize et al., 2021 and 2023), a soft contrastive loss,
and two compositions of it that are in no paper.

**With a ring**, both distributions see the positive and the ring of the query alone. Wu et al.
replace the negatives in the denominator of InfoNCE by negatives conditioned on the ring; SCE's
denominator is the same sum, and its relational target a softmax over the same candidates, so
conditioning both keeps the target a distribution over what the query is asked about. ``outer=1,
inner=0`` is plain SCE; ``coeff=1`` is :func:`~sce_video.objectives.ring.ring_loss`.

**With soft neighbours**, the key's nearest candidates share the positive's ``coeff``. SNCLR gives
the own key weight 1 and a neighbour a weight in [0,1] that says how much it agrees; here a
neighbour's is ``exp((k.c - k.k) / temp_m)``, 1 for one equal to the key and falling to 0 as it
moves away. Scaled to sum to 1, the weights are a softmax of the key's similarities to itself and
its neighbours. 0 neighbours, or neighbours far from the key, are plain SCE.

Shapes: N local batch, W ranks, D embedding width, K queue length, M candidates besides the
positive, n neighbours.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sce_video.objectives.ring import Ring
from sce_video.objectives.similarity import (
    Parts,
    Similarities,
    dot,
    full_precision,
    lse_and_mean,
    similarities,
    softmax_and_lse,
    state,
)

PositiveInTarget = Literal["masked", "zero_logit"]


def sce_loss(
    q: Tensor,
    k: Tensor,
    queue: Tensor | None = None,
    keys: Tensor | None = None,
    rank: int = 0,
    *,
    coeff: float = 0.5,
    temp: float = 0.1,
    temp_m: float = 0.05,
    positive_in_target: PositiveInTarget = "masked",
    ring: Ring | None = None,
    neighbours: int = 0,
) -> tuple[Tensor, Parts]:
    """Cross-entropy of a soft target of the keys and the queries' softmax, one direction.

    The target is ``coeff`` on the positive plus ``1 - coeff`` over the other candidates by the
    key's similarities to them at ``temp_m``. The loss is ``coeff * infonce + (1 - coeff) *
    (relational + ceiling)``: ``coeff=1`` is InfoNCE, ``coeff=0`` ReSSL and the ceiling term.
    Computed in fp32 whatever the autocast (float64 inputs stay float64).

    Args:
        q: online embeddings ``[N,D]``, L2-normalised; the only input that gets a gradient.
        k: momentum embeddings ``[N,D]``, L2-normalised, row i the positive of query i.
        queue: past keys ``[D,K]``, unit columns, or None.
        keys: keys of all ranks ``[W*N,D]``, rank-major, or None. With None the candidates are a
            query's own key and the queue (every published run); otherwise all keys and the queue.
        rank: this rank, which places the positives in ``keys``.
        coeff: weight of the positive in the target, in [0,1] (the paper's lambda).
        temp: temperature of the online distribution, > 0.
        temp_m: temperature of the target, in (0, temp).
        positive_in_target: ``masked`` as the paper; ``zero_logit`` as the released code, where
            with ``keys=None`` the positive keeps similarity 0 in the target's softmax.
        ring: the band of candidates that count; None = all.
        neighbours: how many share the positive's weight.

    Returns:
        ``(loss, parts)``: the mean over the batch, and detached scalars: ``infonce``,
        ``relational`` and ``ceiling``, ``target_entropy`` (nats), ``positive`` and ``negative``
        (mean cosines), ``top1`` (share of queries nearest to their own key).

    Raises:
        ValueError: no candidate besides the positive, shapes that do not fit, an empty ring, or
            more neighbours than candidates.
    """
    with full_precision(q) as dtype:
        logits = similarities(q.to(dtype) / temp, k, queue, keys, rank)
        with torch.no_grad():
            relation = similarities(k.to(dtype) / temp_m, k, queue, keys, rank)
        top_N = logits.others.detach().amax(1)
        places_NR = None if ring is None else ring.select(logits.others)
        if places_NR is not None:
            logits = logits._replace(others=logits.others.gather(1, places_NR))
            relation = relation._replace(others=relation.others.gather(1, places_NR))
        zero_logit = positive_in_target == "zero_logit" and keys is None
        target = _target(relation, coeff, zero_logit, neighbours)
        del relation  # as large as the queue's similarities: not needed any more
        loss, parts = _cross_entropy(logits, target)
        return loss, {**parts, **state(logits, top_N, temp)}


class _Target(NamedTuple):
    """The momentum side: ``coeff`` for the positives together, the rest for ``others``."""

    coeff: Tensor  # [N]
    others: Tensor  # [N,M] the key's relation to the others; rows sum to 1
    shares: Tensor  # [N,1+n] of coeff: the own key's, then the neighbours'
    nearest: Tensor  # [N,n] columns of the neighbours
    entropy: Tensor  # [N] of the whole target, nats


@torch.no_grad()
def _target(relation: Similarities, coeff: float, zero_logit: bool, neighbours: int) -> _Target:
    others_NM, lse_N, _ = softmax_and_lse(relation.others)
    coeff_N = torch.full_like(lse_N, coeff)
    if zero_logit:  # the released code multiplies the positive's similarity by 0
        coeff_N = coeff + (1 - coeff) * torch.sigmoid(-lse_N)
    if neighbours > relation.others.shape[1]:
        raise ValueError(f"{neighbours} neighbours of {relation.others.shape[1]} candidates")
    near = relation.others.topk(neighbours, dim=1)
    shares = torch.cat([relation.positive[:, None], near.values], 1).softmax(1)
    rest_N = 1 - coeff_N
    entr = torch.special.entr
    entropy_N = entr(rest_N) + rest_N * (lse_N - dot(others_NM, relation.others))
    entropy_N += entr(coeff_N * shares[:, 0])
    if neighbours:  # their mass comes on top of what the relation gives them
        before = rest_N[:, None] * others_NM.gather(1, near.indices)
        entropy_N += (entr(before + coeff_N[:, None] * shares[:, 1:]) - entr(before)).sum(1)
    return _Target(coeff_N, others_NM, shares, near.indices, entropy_N)


def _cross_entropy(logits: Similarities, target: _Target) -> tuple[Tensor, Parts]:
    """Loss and its terms."""
    others = lse_and_mean(logits.others, target.others, target.nearest)
    infonce_N = -F.logsigmoid(logits.positive - others.lse)
    relational_N = others.lse - others.mean
    ceiling_N = -F.logsigmoid(others.lse - logits.positive)
    positives_N = infonce_N
    if target.nearest.shape[1]:
        positives = torch.cat([logits.positive[:, None], others.picked], 1)
        positives_N = infonce_N + logits.positive - dot(target.shares, positives)
    loss = torch.lerp(relational_N + ceiling_N, positives_N, target.coeff).mean()
    parts = {
        "infonce": infonce_N.detach().mean(),
        "relational": relational_N.detach().mean(),
        "ceiling": ceiling_N.detach().mean(),
        "target_entropy": target.entropy.mean(),
    }
    return loss, parts
