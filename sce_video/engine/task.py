"""What the training loop gets of a task, and what may look on."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class StepLoss(NamedTuple):
    """One micro-batch's outcome."""

    loss: Tensor  # scalar with gradient, mean over the local micro-batch
    parts: dict[str, Tensor]  # detached scalars to log
    bad: list[tuple[str, str]]  # (shard/key, reason) of samples that were replaced
    keys: list[str]  # shard/key of the samples
    cpu: float  # seconds of CPU that making the batch took in a worker


class Evaluation(Protocol):
    """What looks at the network between two steps, and leaves it as it is."""

    every: int  # optimizer steps

    def __call__(self) -> dict[str, float]:
        """Scalars to log; a collective call."""
