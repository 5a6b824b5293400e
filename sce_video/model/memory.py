"""The queue of past keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Queue(nn.Module):
    """A ring of K past keys, unit columns ``keys [D,K]``, and the next place to write.

    Starts as normalised Gaussian noise from its own generator, so that every rank starts with the
    same columns; both are buffers, in every checkpoint.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, dim: int, size: int, seed: int) -> None:
        super().__init__()
        noise = torch.randn(dim, size, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("keys", F.normalize(noise, dim=0))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    @property
    def size(self) -> int:
        """K, the number of keys held."""
        return self.keys.shape[1]

    @torch.no_grad()
    def enqueue(self, new_ND: Tensor) -> None:
        """Write keys ``[N,D]`` at the pointer, round the end if need be.

        Raises:
            ValueError: more keys than the queue holds.
        """
        n = len(new_ND)
        if n > self.size:
            raise ValueError(f"{n} keys a step do not fit a queue of {self.size}")
        columns_DN = new_ND.to(self.keys.dtype).T
        start = int(self.pointer)
        first = min(n, self.size - start)
        self.keys[:, start : start + first] = columns_DN[:, :first]
        self.keys[:, : n - first] = columns_DN[:, first:]
        self.pointer.fill_((start + n) % self.size)
