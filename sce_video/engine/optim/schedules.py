"""Schedules in closed form: pure functions of the 0-based optimizer step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal


def scaled_lr(lr: float, scaling: Literal["linear", "sqrt", "none"], batch_size: int) -> float:
    """Learning rate for a global batch: ``lr * batch / 256``, ``lr * sqrt(batch)``, or ``lr``."""
    if scaling == "linear":
        return lr * batch_size / 256
    return lr * math.sqrt(batch_size) if scaling == "sqrt" else lr


def warmup_cosine(step: int, warmup: int, total: int, base: float) -> float:
    """Linear from 0 to ``base`` over ``warmup`` steps, then a cosine to 0 at ``total``.

    As in the reference, ``base`` is met twice, at ``warmup - 1`` and ``warmup``.
    """
    if step < warmup:
        return base * step / max(warmup - 1, 1)
    return base / 2 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def warmup_drops(step: int, warmup: int, drops: Sequence[int], base: float) -> float:
    """The same warm-up; then a tenth of ``base`` from the first step of ``drops`` on, and so on."""
    if step < warmup:
        return warmup_cosine(step, warmup, warmup, base)
    return base * 0.1 ** sum(step >= drop for drop in drops)


def cosine_momentum(step: int, total: int, initial: float) -> float:
    """Momentum of the momentum encoder after ``step``: ``initial`` first, 1 after the last."""
    if total == 1:
        return initial
    return 1 - (1 - initial) * (math.cos(math.pi * step / (total - 1)) + 1) / 2
