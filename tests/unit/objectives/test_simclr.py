"""SimCLR against its reference implementation and torch's cross-entropy."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sce_video.objectives import (
    simclr_loss,
)
from tests.unit.objectives.golden import (
    Case,
    cases,
    check,
    check_gradient,
    leaf,
    random_unit,
    same,
    tensor,
)


@pytest.mark.parametrize(("case", "dtype", "tolerance"), cases("simclr_loss"))
def test_golden(case: Case, dtype: str, tolerance: dict[str, float]) -> None:
    z, rank = leaf(case["inputs"]["z_local"], dtype), case["params"]["rank"]
    others = tensor(case["inputs"]["z_global"], dtype)
    z_all = torch.cat([others[: rank * len(z)], z, others[(rank + 1) * len(z) :]])
    loss, _ = simclr_loss(z, z_all, rank, temp=case["params"]["temp"])
    check(loss, case["expected"][dtype]["loss"], tolerance)
    check_gradient(loss, z, case["expected"][dtype]["grad_z_local"], tolerance)


def test_simclr_of_one_rank_is_the_cross_entropy_without_oneself() -> None:
    z = random_unit(10, 8, seed=0).requires_grad_()
    logits = (z @ z.T / 0.3).fill_diagonal_(float("-inf"))
    expected = F.cross_entropy(logits, torch.arange(10).roll(5))
    same(simclr_loss(z, temp=0.3)[0], expected, z)
