"""What all objectives are made of: how alike a query is to its positive, and to all others.

Shapes: N local batch, W ranks, D embedding width, K queue length, M candidates besides the
positive.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Parts = dict[str, Tensor]
"""Detached scalars to log."""


class Similarities(NamedTuple):
    """Cosines, or cosines over a temperature (logits)."""

    positive: Tensor  # [N]
    others: Tensor  # [N,M] of all candidates but the positive


class Lse(NamedTuple):
    """What :func:`lse_and_mean` gives."""

    lse: Tensor  # [N] log-sum-exp
    mean: Tensor  # [N] weighted sum; zeros without weights
    top: Tensor  # [N] the largest, detached
    picked: Tensor  # [N,n] the columns asked for


@contextmanager
def full_precision(x: Tensor) -> Iterator[torch.dtype]:
    """Autocast off; gives the dtype to compute in: float32, or float64 for such inputs."""
    with torch.autocast(x.device.type, enabled=False):
        yield torch.float64 if x.dtype == torch.float64 else torch.float32


def check(q: Tensor, k: Tensor, queue: Tensor | None, keys: Tensor | None, rank: int) -> None:
    """Refuse shapes that do not fit each other.

    Raises:
        ValueError: names both shapes; or no candidate besides the positive is left.
    """
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


def similarities(
    x: Tensor, k: Tensor, queue: Tensor | None, keys: Tensor | None, rank: int
) -> Similarities:
    """Of ``x [N,D]`` to its positives ``k [N,D]`` and to the other candidates.

    The others are the other rows of ``keys [W*N,D]`` (rank-major, if given), then the columns of
    ``queue [D,K]`` (if given). Only ``x`` gets a gradient; nothing the size of the queue is copied.

    Raises:
        ValueError: see :func:`check`.
    """
    check(x, k, queue, keys, rank)
    positive_N = (x * k.detach().to(x.dtype)).sum(1)
    blocks = []
    if keys is not None:
        all_NM = x @ keys.detach().to(x.dtype).T
        blocks.append(all_NM.gather(1, _others(len(x), len(keys), rank, x.device)))
    if queue is not None:
        blocks.append(x @ queue.detach().to(x.dtype))
    return Similarities(positive_N, blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1))


def _others(n: int, keys: int, rank: int, device: torch.device) -> Tensor:
    """Columns ``[n, keys - 1]`` of gathered keys without each row's own, ``i + n * rank``."""
    own_N1 = torch.arange(n, device=device)[:, None] + n * rank
    column = torch.arange(keys - 1, device=device)
    return column + (column >= own_N1)


def softmax_and_lse(x_NM: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax ``[N,M]``, log-sum-exp ``[N]`` and maximum ``[N]`` of each row."""
    p_NM, top_N = torch.softmax(x_NM, dim=1), x_NM.amax(1)
    # The largest probability is 1/M at least: its logarithm is exact enough for any M.
    return p_NM, top_N - p_NM.amax(1).log(), top_N


class _LseAndMean(torch.autograd.Function):
    """Keeps one matrix for the backward pass, where autograd by parts would hold four."""

    @staticmethod
    def forward(
        ctx: Any, x_NM: Tensor, weights_NM: Tensor | None, columns_Nn: Tensor
    ) -> tuple[Tensor, ...]:
        p_NM, lse_N, top_N = softmax_and_lse(x_NM)
        mean_N = torch.zeros_like(lse_N) if weights_NM is None else dot(weights_NM, x_NM)
        ctx.save_for_backward(p_NM, weights_NM, columns_Nn)
        ctx.mark_non_differentiable(top_N)
        return lse_N, mean_N, top_N, x_NM.gather(1, columns_Nn)

    @staticmethod
    def backward(
        ctx: Any, lse_grad: Tensor, mean_grad: Tensor, _: Tensor, picked_grad: Tensor
    ) -> tuple[Tensor, None, None]:
        p_NM, weights_NM, columns_Nn = ctx.saved_tensors
        grad_NM = p_NM * lse_grad[:, None]
        if weights_NM is not None:
            grad_NM.addcmul_(weights_NM, mean_grad[:, None])
        return grad_NM.scatter_add_(1, columns_Nn, picked_grad), None, None


def dot(a_NM: Tensor, b_NM: Tensor) -> Tensor:
    """Row by row, ``[N]``, without a whole product matrix; einsum takes three times as long."""
    pieces = zip(a_NM.chunk(8), b_NM.chunk(8), strict=True)
    return torch.cat([(a * b).sum(1) for a, b in pieces])


def lse_and_mean(
    x_NM: Tensor, weights_NM: Tensor | None = None, columns_Nn: Tensor | None = None
) -> Lse:
    """Log-sum-exp of each row, its sum weighted by ``weights_NM`` (no gradient to them), columns.

    Columns ``[N,n]`` picked here share the gradient's matrix; a gather beside would make its own.
    """
    if columns_Nn is None:
        columns_Nn = torch.empty(len(x_NM), 0, dtype=torch.long, device=x_NM.device)
    return Lse(*_LseAndMean.apply(x_NM, weights_NM, columns_Nn))


def contrast(logits: Similarities, temp: float) -> tuple[Tensor, Parts]:
    """InfoNCE, the mean of ``-log(e^positive / (e^positive + sum e^others))``.

    Returns:
        ``(loss, parts)``; parts: ``infonce`` and those of :func:`state`.
    """
    others = lse_and_mean(logits.others)
    loss = -F.logsigmoid(logits.positive - others.lse).mean()
    return loss, {"infonce": loss.detach(), **state(logits, others.top, temp)}


@torch.no_grad()
def state(logits: Similarities, top_N: Tensor, temp: float) -> Parts:
    """What shows the state of training, whatever the objective.

    Returns:
        ``positive`` and ``negative``: mean cosine to the positive and to the other candidates;
        ``top1``: share of queries that are nearest to their own positive.
    """
    return {
        "positive": logits.positive.mean() * temp,
        "negative": logits.others.mean() * temp,
        "top1": (logits.positive > top_N).to(top_N.dtype).mean(),
    }
