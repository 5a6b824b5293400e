"""SimCLR's NT-Xent (Chen et al. 2020): crops of an item against the crops of all others.

Shapes: N local batch, V crops an item, W ranks, D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sce_video.objectives.base import Embeddings, Objective
from sce_video.objectives.gather import current_rank, gather_with_gradient
from sce_video.objectives.similarity import Parts, Similarities, contrast, full_precision


def simclr_loss(
    z: Tensor, z_all: Tensor | None = None, rank: int = 0, *, temp: float = 0.5
) -> tuple[Tensor, Parts]:
    """For each crop: ``-log(e^positive / sum e^all)``, where all leaves out the crop itself.

    Args:
        z: this rank's embeddings ``[2*N,D]``, L2-normalised, crop-major (crop 0 of all items, then
            crop 1).
        z_all: the ``z`` of all ranks ``[W*2*N,D]``, rank-major; None = one rank. Gradients flow
            through it, too: a gather must return them summed over ranks.
        rank: this rank.
        temp: temperature, > 0.

    Returns:
        ``(loss, parts)``: the mean over crops; ``infonce``, ``positive``, ``negative``, ``top1``.

    Raises:
        ValueError: an odd number of rows, ``z_all`` without this rank's, or no negatives.
    """
    z_all = z if z_all is None else z_all
    rows = len(z)
    if rows % 2:
        raise ValueError(f"{rows} rows are not two crops an item")
    if z_all.shape[1] != z.shape[1] or len(z_all) < rows * (rank + 1):
        raise ValueError(f"z_all {tuple(z_all.shape)} does not hold rank {rank}'s {tuple(z.shape)}")
    if len(z_all) < 4:
        raise ValueError("one item alone has no negatives: a global batch of 2 or more is needed")
    with full_precision(z) as dtype:
        all_NM = (z.to(dtype) / temp) @ z_all.to(dtype).T
        own = torch.arange(rows, device=z.device)[:, None]
        positive = (own + rows // 2) % rows
        # Without the crop itself and its positive, whichever comes first.
        first, second = torch.minimum(own, positive), torch.maximum(own, positive)
        column = torch.arange(len(z_all) - 2, device=z.device)
        column = column + (column >= first + rank * rows)
        column = column + (column >= second + rank * rows)
        positive_N = all_NM.gather(1, positive + rank * rows)[:, 0]
        return contrast(Similarities(positive_N, all_NM.gather(1, column)), temp)


class SimCLR(Objective):
    """:func:`simclr_loss` for the trainer: one network, no memory."""

    momentum = False

    def __init__(self, temp: float = 0.5) -> None:
        super().__init__()
        self.temp = temp

    def forward(self, embeddings: Embeddings) -> tuple[Tensor, Parts]:
        """See :class:`~sce_video.objectives.base.Objective`."""
        z = torch.cat(list(embeddings.queries.values()))
        return simclr_loss(z, gather_with_gradient(z), current_rank(), temp=self.temp)
