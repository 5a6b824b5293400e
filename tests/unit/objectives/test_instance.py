"""Contrast with a bank against Ring's reference implementation, and as InfoNCE."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sce_video.objectives import (
    Ring,
    info_nce_loss,
    instance_loss,
    ring_loss,
)
from sce_video.objectives.memory import Bank
from tests.unit.objectives.golden import (
    Case,
    cases,
    check,
    check_gradient,
    close,
    document,
    leaf,
    same,
    tensor,
    unit,
)


@pytest.mark.parametrize(("case", "dtype", "tolerance"), cases("ring_ir", shared=True))
def test_ring_of_a_bank(case: Case, dtype: str, tolerance: dict[str, float]) -> None:
    inputs, params = document("ring_ir")["cases"][0]["inputs"], case["params"]
    outputs, bank = leaf(inputs["outputs"], dtype), tensor(inputs["bank_NxD"], dtype)
    rows = torch.tensor(inputs["indices"])
    draws = (torch.tensor(case["draw_indices"]) + 0.5) / case["draw_upper_bound"]
    ring = Ring(params["thres_outer"], params["thres_inner"], params["dynamic_inner"])
    loss, _ = instance_loss(
        unit(outputs),
        bank,
        rows,
        draws,
        temp=params["t"],
        ring=None if params["class"] == "NCE" else ring,
    )
    check(loss, case["expected"][dtype]["loss"], tolerance)
    check_gradient(loss, outputs, case["expected"][dtype]["grad_outputs"], tolerance)
    memory = Bank(bank.shape[0], bank.shape[1], params["m"], seed=0).to(bank.dtype)
    memory.vectors.copy_(bank)
    memory.update(rows, unit(outputs.detach()))
    after = tensor(case["expected"][dtype]["bank_rows_after_update"], dtype)
    close(memory.vectors[rows], after, tolerance)


def test_instance_loss_of_the_whole_bank(batch: dict[str, Tensor]) -> None:
    """Drawing every row once is InfoNCE with the bank as the queue."""
    q, bank = batch["q"], batch["queue"].T
    rows = torch.arange(6)
    draws = ((torch.arange(20) + 0.5) / 20).expand(6, 20)
    loss, _ = instance_loss(q, bank, rows, draws, temp=0.1)
    same(loss, info_nce_loss(q, bank[rows], bank.T, temp=0.1)[0], q)
    ring, _ = instance_loss(q, bank, rows, draws[:, :9] * 20 / 9, temp=0.1, ring=Ring(0.6, 0.25))
    same(ring, ring_loss(q, bank[rows], bank.T, temp=0.1, outer=0.6, inner=0.25)[0], q)
