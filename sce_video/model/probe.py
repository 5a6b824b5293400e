"""The online evaluator: a linear layer that learns the classes beside pretraining, unseen by it."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

_LR, _BETAS, _EPS = 1e-4, (0.9, 0.999), 1e-8  # Adam's, as eztorch's online evaluator has them


class LinearProbe(nn.Module):
    """Softmax regression on detached features, by Adam, one step a training batch.

    Everything is a buffer: it is checkpointed with the network, the same on every rank, and no
    optimizer or gradient of the network meets it. C classes, F features.
    """

    weight: Tensor  # [C,F+1]; the last column is the bias
    first: Tensor  # Adam's moments, as the weight
    second: Tensor
    steps: Tensor  # int64 scalar

    def __init__(self, features: int, classes: int, seed: int) -> None:
        super().__init__()
        # Its own draws: those of the network must be what they are without it.
        generator = torch.Generator().manual_seed(seed)
        weight = torch.rand(classes, features + 1, generator=generator) * 2 - 1
        self.register_buffer("weight", weight / math.sqrt(features))  # torch's own range
        self.register_buffer("first", torch.zeros_like(weight))
        self.register_buffer("second", torch.zeros_like(weight))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._sums: list[Tensor] = []  # of the step's micro-batches

    def logits(self, features: Tensor) -> Tensor:
        """``[B,F]`` -> ``[B,C]`` fp32. Not ``forward``: ZeRO-3 would want every rank in it."""
        return F.linear(features.float(), self.weight[:, :-1], self.weight[:, -1])

    @torch.no_grad()
    def learn(self, features: Tensor, labels: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Take in a micro-batch.

        Args:
            features: ``[B,F]``.
            labels: ``[B]`` int64 on the same device; -1 = unlabelled, skipped.

        Returns:
            Summed loss and right answers before the step, each with the number of labelled samples.
        """
        x, known = features.float(), (labels >= 0).float()
        logits, classes = self.logits(x), labels.clamp(min=0)[:, None]
        # The gradient of the summed cross-entropy, in closed form.
        residual = logits.softmax(1) * known[:, None]
        residual.scatter_add_(1, classes, -known[:, None])
        gradient = residual.T @ torch.cat([x, x.new_ones(len(x), 1)], 1)
        loss = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
        right = ((logits.argmax(1) == labels) * known).sum()
        count = known.sum()
        self._sums.append(torch.cat([gradient.flatten(), count[None]]))
        return {"probe_loss": (loss, count), "probe_top1": (right, count)}

    @torch.no_grad()
    def end_step(self) -> None:
        """One step of Adam on the mean over all ranks, none without a label; a collective call.

        Whether there was a label is never asked: the host would have to wait for it.
        """
        sums = torch.stack(self._sums).sum(0)
        self._sums.clear()
        dist.all_reduce(sums)
        samples, any_known = sums[-1], sums[-1].sign()
        gradient = sums[:-1].view_as(self.weight) / samples.clamp(min=1)
        self.steps += any_known.long()
        count = self.steps.clamp(min=1).double()
        self.first.lerp_(gradient, any_known * (1 - _BETAS[0]))
        self.second.lerp_(gradient.square(), any_known * (1 - _BETAS[1]))
        mean = self.first / (1 - _BETAS[0] ** count)
        spread = (self.second / (1 - _BETAS[1] ** count)).sqrt() + _EPS
        self.weight.sub_(_LR * any_known * mean / spread)
