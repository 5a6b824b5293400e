"""InfoNCE, the positive against all other candidates: MoCo v1 (He et al. 2020), v2 (Chen et al.
2020) and v3 (Chen et al. 2021).

Shapes: N local batch, W ranks, D embedding width, K queue length.
"""

from __future__ import annotations

from torch import Tensor

from sce_video.objectives.similarity import Parts, contrast, full_precision, similarities


def info_nce_loss(
    q: Tensor,
    k: Tensor,
    queue: Tensor | None = None,
    keys: Tensor | None = None,
    rank: int = 0,
    *,
    temp: float = 0.2,
) -> tuple[Tensor, Parts]:
    """Cross-entropy of the positive among all candidates: ``-log(e^pos / (e^pos + sum e^others))``.

    The same as :func:`~sce_video.objectives.sce.sce_loss` with ``coeff=1``, without the cost of
    its target. Arguments, shapes, precision and errors as there.

    Returns:
        ``(loss, parts)``; parts: ``infonce``, ``positive``, ``negative``, ``top1``.
    """
    with full_precision(q) as dtype:
        return contrast(similarities(q.to(dtype) / temp, k, queue, keys, rank), temp)


def mocov3_loss(
    q: Tensor,
    k: Tensor,
    queue: None = None,
    keys: Tensor | None = None,
    rank: int = 0,
    *,
    temp: float = 1.0,
) -> tuple[Tensor, Parts]:
    """:func:`info_nce_loss` among the keys of all ranks, times ``2 * temp``; no queue.

    One direction; the published loss is the sum, not the mean, of both.

    Raises:
        ValueError: ``keys`` is None, or a queue is given.
    """
    if keys is None or queue is not None:
        raise ValueError("MoCo v3 contrasts with the keys of all ranks: give keys and no queue")
    loss, parts = info_nce_loss(q, k, None, keys, rank, temp=temp)
    return 2 * temp * loss, parts
