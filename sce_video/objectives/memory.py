"""What objectives remember of past steps: buffers, in every checkpoint.

Shapes: D embedding width, K queue length, S samples.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Overflow = Literal["wrap", "drop"]


class Queue(nn.Module):
    """A ring of K past keys, unit columns ``keys [D,K]``, and the next place to write.

    Starts as normalised Gaussian noise from its own generator, so that every rank starts with the
    same columns.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, dim: int, size: int, seed: int, overflow: Overflow = "wrap") -> None:
        """``overflow``: keys that cross the end go on at the start, or (SNCLR's code) are lost."""
        super().__init__()
        noise = torch.randn(dim, size, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("keys", F.normalize(noise, dim=0))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self.overflow = overflow

    @torch.no_grad()
    def enqueue(self, new_ND: Tensor) -> None:
        """Write keys ``[N,D]`` at the pointer, round the end if need be.

        Raises:
            ValueError: more keys than the queue holds.
        """
        n, size = len(new_ND), self.keys.shape[1]
        if n > size:
            raise ValueError(f"{n} keys a step do not fit a queue of {size}")
        # By columns, not slices: where the pointer is, the host would have to wait for.
        columns_DN = new_ND.to(self.keys.dtype).T
        places = self.pointer + torch.arange(n, device=self.keys.device)
        end = self.pointer + n
        if self.overflow == "drop":
            columns_DN = torch.where(places < size, columns_DN, self.keys[:, places % size])
            end = end.clamp(max=size)
        self.keys.index_copy_(1, places % size, columns_DN)
        self.pointer.copy_(end % size)


class Bank(nn.Module):
    """One unit vector per training sample, ``vectors [S,D]``; starts as a queue does."""

    vectors: Tensor

    def __init__(self, samples: int, dim: int, momentum: float, seed: int) -> None:
        super().__init__()
        noise = torch.randn(samples, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("vectors", F.normalize(noise, dim=1))
        self.momentum = momentum

    @torch.no_grad()
    def update(self, rows: Tensor, new_ND: Tensor) -> None:
        """``v <- normalize(momentum * v + (1 - momentum) * new)`` for the ``rows [N]``."""
        # A row given twice takes the last: writing both would leave the order to the device.
        ordered, order = rows.sort(stable=True)
        last = order[torch.searchsorted(ordered, rows, right=True) - 1]
        mixed = torch.lerp(new_ND[last].to(self.vectors.dtype), self.vectors[rows], self.momentum)
        self.vectors[rows] = F.normalize(mixed, dim=1)
