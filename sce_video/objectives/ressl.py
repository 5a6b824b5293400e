"""ReSSL, relational self-supervised learning (Zheng et al. 2021).

Shapes: N local batch, W ranks, D embedding width, K queue length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sce_video.objectives.similarity import (
    Parts,
    dot,
    full_precision,
    lse_and_mean,
    similarities,
    softmax_and_lse,
    state,
)


def ressl_loss(
    q: Tensor,
    k: Tensor,
    queue: Tensor | None = None,
    keys: Tensor | None = None,
    rank: int = 0,
    *,
    temp: float = 0.1,
    temp_m: float = 0.04,
) -> tuple[Tensor, Parts]:
    """Cross-entropy between the key's and the query's relations to the others, positive left out.

    The relational term of SCE alone: ``coeff=0`` of :func:`~sce_video.objectives.sce.sce_loss`
    has the ceiling term besides. Arguments, shapes, precision and errors as there.

    Returns:
        ``(loss, parts)``; parts: ``relational``, ``target_entropy`` (nats), ``positive``,
        ``negative``, ``top1``.
    """
    with full_precision(q) as dtype:
        logits = similarities(q.to(dtype) / temp, k, queue, keys, rank)
        with torch.no_grad():
            relation = similarities(k.to(dtype) / temp_m, k, queue, keys, rank)
            target_NM, lse_N, _ = softmax_and_lse(relation.others)
            entropy_N = lse_N - dot(target_NM, relation.others)
            del relation  # as large as the queue's similarities: not needed any more
        others = lse_and_mean(logits.others, target_NM)
        loss = (others.lse - others.mean).mean()
        parts = {
            "relational": loss.detach(),
            "target_entropy": entropy_N.mean(),
            **state(logits, others.top, temp),
        }
        return loss, parts
