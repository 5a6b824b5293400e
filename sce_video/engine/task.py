"""What the training loop asks of a task; it knows no task by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn


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


class Task(Protocol):
    """A thing to train. ``module`` goes into the engine with all that a checkpoint must hold."""

    steps_per_epoch: int
    total_steps: int

    @property
    def module(self) -> nn.Module:
        """The network, its memory included."""

    def batches(self, consumed: int) -> Iterator[Any]:
        """This rank's micro-batches after ``consumed`` global samples."""

    def loss(self, engine: Callable[..., Any], batch: Any, step: int) -> StepLoss:
        """Forward a micro-batch of optimizer step ``step`` (0-based) through ``engine``."""

    def end_step(self, step: int) -> dict[str, float]:
        """After optimizer step ``step`` (0-based); returns scalars to log."""

    def trunk(self) -> nn.Module:
        """The part that sees the views, and becomes the encoder."""

    def save(self, folder: Path) -> None:
        """Write what a finished run leaves in its ``folder``; a collective call."""

    def picture(self, batch: Any) -> Tensor | None:
        """What the net sees of a micro-batch, uint8 ``[3,H,W]``, or None."""
