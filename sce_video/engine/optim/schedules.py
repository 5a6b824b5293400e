"""Schedules in closed form: pure functions of the 0-based optimizer step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from sce_video.config.tasks import Config


def scaled_lr(lr: float, scaling: Literal["linear", "sqrt", "none"], batch_size: int) -> float:
    """Learning rate for a global batch: ``lr * batch / 256``, ``lr * sqrt(batch)``, or ``lr``."""
    if scaling == "linear":
        return lr * batch_size / 256
    return lr * math.sqrt(batch_size) if scaling == "sqrt" else lr


def linear(step: int, last: int, initial: float, final: float) -> float:
    """From ``initial`` at step 0 to ``final`` at step ``last``; ``initial`` alone where both are 0.

    Either may be the larger (the reference runs backwards where ``final`` is).
    """
    return initial + (final - initial) * step / last if last > 0 else initial


def cosine(step: int, last: int, initial: float, final: float) -> float:
    """Half a cosine from ``initial`` at step 0 to ``final`` at step ``last``, like :func:`linear`.

    Learning rate, momentum and temperatures follow it.
    """
    share = (1 - math.cos(math.pi * step / last)) / 2 if last > 0 else 0.0
    return initial + (final - initial) * share


def warmup_cosine(
    step: int, warmup: int, total: int, base: float, start: float = 0.0, end: float = 0.0
) -> float:
    """Linear from ``start`` to ``base`` in ``warmup`` steps, then a cosine to ``end`` at ``total``.

    As in the reference, ``base`` is met twice, at ``warmup - 1`` and ``warmup``.
    """
    if step < warmup:
        return linear(step, warmup - 1, start, base)
    return cosine(step - warmup, total - warmup, base, end)


def warmup_drops(step: int, warmup: int, drops: Sequence[int], base: float) -> float:
    """The same warm-up; then a tenth of ``base`` from the first step of ``drops`` on, and so on."""
    if step < warmup:
        return warmup_cosine(step, warmup, warmup, base)
    return base * 0.1 ** sum(step >= drop for drop in drops)


def learning_rate(config: Config, step: int, epoch_steps: int) -> float:
    """Learning rate of a run's optimizer step ``step``, scaled; ``epoch_steps``: steps an epoch."""
    optim, train = config.optim, config.train
    base = scaled_lr(optim.lr, optim.lr_scaling, train.batch_size)
    warmup = round(optim.warmup_epochs * epoch_steps)
    if optim.decay_epochs:
        drops = [round(epoch * epoch_steps) for epoch in optim.decay_epochs]
        return warmup_drops(step, warmup, drops, base)
    total = train.epochs * epoch_steps
    return warmup_cosine(step, warmup, total, base, optim.warmup_start_lr, optim.final_lr)


def cosine_momentum(step: int, total: int, initial: float) -> float:
    """Momentum of the momentum encoder after ``step``: ``initial`` first, 1 after the last."""
    return cosine(step, total - 1, initial, 1.0)
