"""SNCLR against its reference implementation, and as InfoNCE."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sce_video.objectives import (
    snclr_loss,
)
from sce_video.objectives.snclr import nearest
from tests.unit.objectives.golden import (
    Case,
    cases,
    check,
    check_gradient,
    leaf,
    same,
    tensor,
    unit,
)


@pytest.mark.parametrize(("case", "dtype", "tolerance"), cases("snclr_loss"))
def test_golden(case: Case, dtype: str, tolerance: dict[str, float]) -> None:
    inputs, params, expected = case["inputs"], case["params"], case["expected"][dtype]
    q, projection = (leaf(inputs[f"q_{name}_out"], dtype) for name in ("predictor", "projector"))
    keys = unit(tensor(inputs["k_momentum_projection_per_rank"], dtype).flatten(0, 1))
    queue = unit(tensor(inputs["bank_KxD"], dtype).T, dim=0)
    rank, n = params["rank"], params["batch_size"]

    def loss(**more: Any) -> torch.Tensor:
        value, _ = snclr_loss(
            unit(q),
            keys[rank * n : (rank + 1) * n],
            queue,
            keys,
            rank,
            projection=unit(projection),
            topk=params["topk"],
            temp=params["T"],
            threshold=params["threshold"],
            **more,
        )
        return value

    check(loss(), expected["loss"], tolerance)
    check_gradient(loss(), q, expected["grad_q"], tolerance)
    check_gradient(loss(), projection, expected["grad_q_pre"], tolerance)
    detached = loss(detach_weights=True)
    check_gradient(detached, q, expected["grad_q_with_detached_weights"], tolerance)
    derived = case["derived_float64"]
    check(loss(form="log_sum"), derived["paper_form_loss_without_2T"], tolerance)
    found = nearest(keys, queue, params["topk"]).view(-1, n, params["topk"])
    assert found.tolist() == derived["neighbour_indices_per_rank"]
    torch.testing.assert_close(loss(neighbours=found.flatten(0, 1)), loss())


def test_snclr_without_weight_on_neighbours_counts_them_as_negatives(
    batch: dict[str, Tensor],
) -> None:
    """The paper's form with every weight below the threshold: InfoNCE over all candidates."""
    q, k, queue = batch["q"], batch["k"], batch["queue"]
    # Projections that like both neighbours alike leave each the average weight, which is dropped.
    even = torch.zeros_like(k)
    loss, parts = snclr_loss(
        q, k, queue, projection=even, topk=2, temp=0.1, form="log_sum", threshold=True
    )
    near = (k @ queue).topk(2).indices
    candidates = torch.cat([k, queue.T[near.flatten()]])
    expected = F.cross_entropy(q @ candidates.T / 0.1, torch.arange(6))
    same(loss, expected, q)
    torch.testing.assert_close(parts["infonce"], expected.detach())
