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
    def learn(self, features: Tensor, labels: Tensor) -> None:
        """Take in a micro-batch.

        Args:
            features: ``[B,F]``.
            labels: ``[B]`` int64; -1 = unlabelled, skipped.
        """
        known = labels.to(features.device) >= 0
        x, y = features.float()[known], labels.to(features.device)[known]
        logits = self.logits(x)
        # The gradient of the summed cross-entropy, in closed form.
        residual = logits.softmax(1) - F.one_hot(y, logits.shape[1])
        gradient = residual.T @ torch.cat([x, x.new_ones(len(x), 1)], 1)
        loss = F.cross_entropy(logits, y, reduction="sum")
        right = (logits.argmax(1) == y).sum()
        counts = torch.stack([known.sum().float(), loss, right.float()])
        self._sums.append(torch.cat([gradient.flatten(), counts]))

    @torch.no_grad()
    def end_step(self) -> dict[str, float]:
        """One step of Adam on the mean over all ranks; a collective call.

        Returns:
            Loss and top-1 of the batch before the step; nothing if no sample had a label.
        """
        sums = torch.stack(self._sums).sum(0)
        self._sums.clear()
        dist.all_reduce(sums)
        samples, loss, right = sums[-3:].tolist()
        if samples == 0:
            return {}
        gradient = sums[:-3].view_as(self.weight) / samples
        self.steps += 1
        self.first.lerp_(gradient, 1 - _BETAS[0])
        self.second.lerp_(gradient.square(), 1 - _BETAS[1])
        count = int(self.steps)
        mean = self.first / (1 - _BETAS[0] ** count)
        spread = (self.second / (1 - _BETAS[1] ** count)).sqrt() + _EPS
        self.weight.sub_(_LR * mean / spread)
        return {"probe_loss": loss / samples, "probe_top1": right / samples}
