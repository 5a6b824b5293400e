"""A batch for tests of every loss."""

from __future__ import annotations

import pytest
from torch import Tensor

from tests.unit.objectives.golden import random_unit


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Rank 1 of 2: queries, own keys, queue, keys of both ranks."""
    keys = random_unit(12, 8, seed=1)
    return {
        "q": random_unit(6, 8, seed=0).requires_grad_(),
        "k": keys[6:],
        "queue": random_unit(8, 20, seed=2, dim=0),
        "keys": keys,
    }
