"""The Siamese network of pretraining: online and momentum branch, queue, objective.

Shapes: B clips of a rank's micro-batch, D embedding width, V views, W ranks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from sce_video.model.memory import Queue
from sce_video.model.momentum import momentum_copy, update_momentum


class SiameseOutput(NamedTuple):
    """What one forward pass gives the trainer."""

    loss: Tensor  # scalar, mean over the local batch and the ordered pairs of views
    parts: dict[str, Tensor]  # detached scalars to log
    keys: Tensor  # [V*W*B, D] keys of all ranks, view-major, then rank-major: what enters the queue


class Encoder(nn.Module):
    """Trunk, then projector."""

    def __init__(self, trunk: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.projector = projector

    def forward(self, clip: Tensor) -> Tensor:
        """``[B,3,T,H,W]`` -> projection ``[B,D]``, not normalised."""
        projection: Tensor = self.projector(self.trunk(clip))
        return projection


class Siamese(nn.Module):
    """Symmetric two-branch pretraining with a queue (SCE, MoCo v2 and their kin).

    The momentum branch runs in train mode without gradient; the queue and the average are moved
    by :meth:`end_step`, once per optimizer step and after it.
    """

    def __init__(
        self,
        online: Encoder,
        predictor: nn.Module,
        queue: Queue,
        objective: nn.Module,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.online = online
        self.predictor = predictor
        self.momentum = momentum_copy(online)
        self.queue = queue
        self.objective = objective
        self._autocast = autocast

    def forward(self, views: Sequence[Tensor]) -> SiameseOutput:
        """Loss over all ordered pairs of views; one queue snapshot serves all pairs.

        Args:
            views: V tensors ``[B,3,T,H,W]``, normalised.
        """
        # autocast lives in here: around an engine's forward it would be switched off.
        with self._precision(views[0].device.type):
            with torch.no_grad():
                keys = [F.normalize(self.momentum(view), dim=1) for view in views]
            queries = [F.normalize(self.predictor(self.online(view)), dim=1) for view in views]
        losses, all_parts = [], []
        for i, key in enumerate(keys):
            for j, query in enumerate(queries):
                if i != j:
                    loss, parts = self.objective(query, key, self.queue.keys)
                    losses.append(loss)
                    all_parts.append(parts)
        mean = {name: torch.stack([p[name] for p in all_parts]).mean() for name in all_parts[0]}
        mean["embedding_std"] = queries[0].detach().float().std(0).mean()
        return SiameseOutput(
            torch.stack(losses).mean(), mean, torch.cat([_gather(k) for k in keys])
        )

    def end_step(self, keys: Tensor, m: float) -> None:
        """After the optimizer step: move the average with momentum ``m``, enqueue ``keys``."""
        update_momentum(self.momentum, self.online, m)
        self.queue.enqueue(keys)

    def _precision(self, device: str) -> contextlib.AbstractContextManager[object]:
        if self._autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(device, self._autocast)


def _gather(keys_BD: Tensor) -> Tensor:
    """Keys of all ranks, rank-major ``[W*B,D]``, in fp32; no gradient."""
    keys_BD = keys_BD.detach().float().contiguous()
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return keys_BD
    everyone = [torch.empty_like(keys_BD) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, keys_BD)
    return torch.cat(everyone)
