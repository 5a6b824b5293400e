"""SCE, Similarity Contrastive Estimation (Denize et al., 2021 and 2023), a soft contrastive loss.

Shapes: N local batch, W ranks, D embedding width, K queue length, M candidates.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PositiveInTarget = Literal["masked", "zero_logit"]
Parts = dict[str, Tensor]


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
) -> tuple[Tensor, Parts]:
    """SCE of queries against their keys, one direction.

    The target is ``coeff`` on the positive plus ``1 - coeff`` spread over the other candidates by
    the key's own similarities to them at ``temp_m``; the online distribution is the query's
    softmax over all candidates at ``temp``; the loss is their cross-entropy. ``coeff=1`` is
    InfoNCE. Computed in fp32 whatever the autocast (float64 inputs stay float64).

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
        positive_in_target: ``masked`` as the paper writes it; ``zero_logit`` reproduces the
            released code, where the positive keeps similarity 0 in the target's softmax (with
            ``keys=None`` only; it masks otherwise).

    Returns:
        ``(loss, parts)``: the mean over the batch, and detached scalars: ``infonce``,
        ``relational`` and ``ceiling`` (loss = coeff * infonce + (1 - coeff) * (relational +
        ceiling) for ``masked``), ``target_entropy`` (nats), ``positive`` and ``negative`` (mean
        cosines), ``top1`` (share of queries nearest to their own key).

    Raises:
        ValueError: no candidate besides the positive, or shapes that do not fit.
    """
    _check(q, k, queue, keys, rank)
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    with torch.autocast(q.device.type, enabled=False):
        q, k = q.to(dtype), k.detach().to(dtype)
        similarity_NM, positive_N = _similarities(q, k, queue, keys, rank)
        log_p_NM = F.log_softmax(similarity_NM / temp, dim=1)
        with torch.no_grad():
            relation_NM = _relation(k, queue, keys, positive_N, temp_m, positive_in_target)
            target_NM = (1 - coeff) * relation_NM
            own = torch.full_like(positive_N, coeff, dtype=dtype)[:, None]
            target_NM.scatter_add_(1, positive_N[:, None], own)
        loss = -(target_NM * log_p_NM).sum(1).mean()
        parts = _parts(similarity_NM, log_p_NM, relation_NM, target_NM, positive_N)
    return loss, parts


def _check(q: Tensor, k: Tensor, queue: Tensor | None, keys: Tensor | None, rank: int) -> None:
    n, d = q.shape
    if k.shape != q.shape:
        raise ValueError(f"keys are {tuple(k.shape)}, queries {tuple(q.shape)}: must be equal")
    if queue is not None and queue.shape[0] != d:
        raise ValueError(f"the queue is {tuple(queue.shape)}; its columns must have width {d}")
    if keys is not None and (keys.shape[1] != d or keys.shape[0] < n * (rank + 1)):
        raise ValueError(f"gathered keys {tuple(keys.shape)} do not hold rank {rank}'s {n} x {d}")
    others = (0 if queue is None else queue.shape[1]) + (0 if keys is None else len(keys) - 1)
    if others == 0:
        raise ValueError("no candidate besides the positive: give a queue or gathered keys")


def _similarities(
    x: Tensor, k: Tensor, queue: Tensor | None, keys: Tensor | None, rank: int
) -> tuple[Tensor, Tensor]:
    """Cosines of ``x`` to the candidates ``[N,M]`` and the column of each positive ``[N]``."""
    n = len(x)
    if keys is None:
        blocks = [(x * k).sum(1, keepdim=True)]
        positive_N = torch.zeros(n, dtype=torch.long, device=x.device)
    else:
        blocks = [x @ keys.detach().to(x.dtype).T]
        positive_N = torch.arange(n, device=x.device) + n * rank
    if queue is not None:
        blocks.append(x @ queue.detach().to(x.dtype))
    return torch.cat(blocks, dim=1), positive_N


def _relation(
    k: Tensor,
    queue: Tensor | None,
    keys: Tensor | None,
    positive_N: Tensor,
    temp_m: float,
    positive_in_target: PositiveInTarget,
) -> Tensor:
    """The key's softmax over the other candidates ``[N,M]``, 0 on the positive if masked."""
    rank = 0 if keys is None else int(positive_N[0]) // len(k)
    similarity_NM, _ = _similarities(k, k, queue, keys, rank)
    # The released code multiplies the positive's similarity by 0 where keys are not gathered.
    fill = 0.0 if positive_in_target == "zero_logit" and keys is None else float("-inf")
    similarity_NM.scatter_(1, positive_N[:, None], fill)
    return F.softmax(similarity_NM.div_(temp_m), dim=1)


@torch.no_grad()
def _parts(
    similarity_NM: Tensor, log_p_NM: Tensor, relation_NM: Tensor, target_NM: Tensor, pos_N: Tensor
) -> Parts:
    """The loss's three terms and what shows the state of training, as detached scalars."""
    n, m = similarity_NM.shape
    log_positive_N = log_p_NM.gather(1, pos_N[:, None])[:, 0]
    positive_N = similarity_NM.gather(1, pos_N[:, None])[:, 0]
    # log(S/T): the probability that is left to the other candidates.
    log_others_N = log_p_NM.scatter(1, pos_N[:, None], float("-inf")).logsumexp(1)
    others_NM = relation_NM.scatter(1, pos_N[:, None], 0.0)
    relational_N = others_NM.sum(1) * log_others_N - (others_NM * log_p_NM).sum(1)
    return {
        "infonce": -log_positive_N.mean(),
        "relational": relational_N.mean(),
        "ceiling": -log_others_N.mean(),
        "target_entropy": torch.special.entr(target_NM).sum(1).mean(),
        "positive": positive_N.mean(),
        "negative": (similarity_NM.sum() - positive_N.sum()) / (n * (m - 1)),
        "top1": (similarity_NM.argmax(1) == pos_N).to(similarity_NM.dtype).mean(),
    }


class SCE(nn.Module):
    """:func:`sce_loss` with its settings, for the trainer; arguments as there."""

    def __init__(
        self,
        coeff: float = 0.5,
        temp: float = 0.1,
        temp_m: float = 0.05,
        positive_in_target: PositiveInTarget = "masked",
    ) -> None:
        super().__init__()
        if not temp_m < temp:
            raise ValueError(f"temp_m {temp_m} must be below temp {temp}: the target is sharper")
        self.coeff, self.temp, self.temp_m = coeff, temp, temp_m
        self.positive_in_target: PositiveInTarget = positive_in_target

    def forward(self, q: Tensor, k: Tensor, queue: Tensor) -> tuple[Tensor, Parts]:
        """Loss of one direction; candidates are the own key and the queue."""
        return sce_loss(
            q,
            k,
            queue,
            coeff=self.coeff,
            temp=self.temp,
            temp_m=self.temp_m,
            positive_in_target=self.positive_in_target,
        )
