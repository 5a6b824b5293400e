"""The network of pretraining: online branch, momentum branch if the objective has keys, objective.

Shapes: B samples of a rank's micro-batch, D embedding width, V views, W ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sce_video.model.autocast import autocast
from sce_video.model.momentum import momentum_copy, update_momentum
from sce_video.model.probe import LinearProbe
from sce_video.model.trunks.lab import LabTrunk
from sce_video.objectives.base import Embeddings, Objective
from sce_video.objectives.gather import gather


class SiameseOutput(NamedTuple):
    """What one forward pass gives the trainer."""

    loss: Tensor  # scalar, mean over the local batch
    parts: dict[str, Tensor]  # detached scalars to log
    remembered: Tensor  # [views, W*B, D] of all ranks, rank-major: what the memory will take
    rows: Tensor  # [W*B] of the samples in the index
    features: Tensor  # [B,F] of the trunk, of the first view that it saw; detached


class Branch(nn.Module):
    """Trunk, then projector."""

    def __init__(self, trunk: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.projector = projector

    def forward(self, clip: Tensor) -> Tensor:
        """``[B,3,T,H,W]`` -> projection ``[B,D]``, not normalised."""
        projection: Tensor = self.projector(self.trunk(clip))
        return projection


class LabBranch(nn.Module):
    """CMC's two streams, lightness and colour, each with its projector."""

    def __init__(self, trunk: LabTrunk, projectors: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.projectors = nn.ModuleList(projectors)

    def forward(self, clip: Tensor) -> list[Tensor]:
        """``[B,3,T,H,W]`` -> projection ``[B,D]`` of each stream, not normalised."""
        return self.project(self.trunk(clip))

    def project(self, features: Tensor) -> list[Tensor]:
        """``[B,F]``, half of it a stream's -> projection ``[B,D]`` of each stream."""
        halves = features.chunk(2, dim=1)
        return [projector(x) for x, projector in zip(halves, self.projectors, strict=True)]


class Siamese(nn.Module):
    """Online encoder and predictor, momentum encoder, objective with its memory.

    The momentum branch runs in train mode without gradient; memory and average are moved by
    :meth:`end_step`, once per optimizer step and after it.
    """

    def __init__(
        self,
        online: Branch | LabBranch,
        predictor: nn.Module,
        objective: Objective,
        autocast: torch.dtype | None = None,
        probe: LinearProbe | None = None,
    ) -> None:
        """``autocast``: dtype of the networks' arithmetic; ``probe``: is only kept with them."""
        super().__init__()
        self.online = online
        self.predictor = predictor
        self.momentum = momentum_copy(online) if objective.momentum else None
        self.objective = objective
        self.probe = probe
        self._autocast = autocast

    def forward(
        self, views: Sequence[Tensor], rows: NDArray[np.int64], epochs: NDArray[np.int64]
    ) -> SiameseOutput:
        """Loss of a micro-batch.

        Args:
            views: V tensors ``[B,3,T,H,W]``, normalised; the global ones first.
            rows: of the samples in the shard set's index ``[B]``.
            epochs: of the samples ``[B]``.
        """
        # autocast lives in here: around an engine's forward it would be switched off.
        with autocast(views[0].device, self._autocast):
            keys = self._keys(views)
            features, projections, queries = self._queries(views)
        embeddings = Embeddings(queries, projections, keys, rows, epochs)
        local = self.objective.to_remember(embeddings)
        embeddings.remembered = {view: gather(x) for view, x in local.items()}
        loss, parts = self.objective(embeddings)
        first = next(iter(queries.values())).detach()
        parts["embedding_std"] = first.std(0).mean()
        views_of_all = list(embeddings.remembered.values())
        remembered = torch.stack(views_of_all) if views_of_all else first.new_zeros(0, 0, 0)
        rows_of_all = gather(torch.from_numpy(rows).to(first.device, non_blocking=True))
        return SiameseOutput(loss, parts, remembered, rows_of_all, features.detach())

    @torch.no_grad()
    def _keys(self, views: Sequence[Tensor]) -> dict[int, Tensor]:
        if self.momentum is None:
            return {}
        global_views = views[: self.objective.key_views]
        return {i: _unit(self.momentum(view)) for i, view in enumerate(global_views)}

    def _queries(
        self, views: Sequence[Tensor]
    ) -> tuple[Tensor, dict[int, Tensor], dict[int, Tensor]]:
        """Features of the first view that is a query; of each, projection and prediction.

        The two are of unit length. CMC's queries are its streams.
        """
        if isinstance(self.online, LabBranch):
            features = self.online.trunk(views[0])
            streams = {i: _unit(x) for i, x in enumerate(self.online.project(features))}
            return features, streams, streams
        first = 0 if self.objective.symmetric else 1
        seen, projections, queries = [], {}, {}
        for i, view in enumerate(views[first:], start=first):
            seen.append(self.online.trunk(view))
            projection = self.online.projector(seen[-1])
            projections[i] = _unit(projection)
            queries[i] = _unit(self.predictor(projection))
        return seen[0], projections, queries

    def end_step(self, remembered: Tensor, rows: Tensor, m: float) -> None:
        """After the optimizer step: move the average with momentum ``m``, and the memory."""
        if self.momentum is not None:
            update_momentum(self.momentum, self.online, m)
        self.objective.remember(remembered, rows)


def _unit(x: Tensor) -> Tensor:
    """L2-normalised rows, in fp32 at least."""
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=1)
