"""What all losses share: fp32 whatever comes in, and shapes that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sce_video.objectives import (
    Ring,
    info_nce_loss,
    instance_loss,
    mocov3_loss,
    ressl_loss,
    ring_loss,
    sce_loss,
    simclr_loss,
    snclr_loss,
)
from tests.unit.objectives.golden import (
    gradient,
    random_unit,
)

LOSSES: dict[str, Any] = {
    "sce": lambda q, k, queue: sce_loss(q, k, queue),
    "sce, keys": lambda q, k, queue: sce_loss(q, k, queue, keys=k),
    "sce, zero logit": lambda q, k, queue: sce_loss(q, k, queue, positive_in_target="zero_logit"),
    "sce, ring": lambda q, k, queue: sce_loss(q, k, queue, ring=Ring(0.6, 0.25)),
    "sce, neighbours": lambda q, k, queue: sce_loss(q, k, queue, neighbours=3),
    "info_nce": lambda q, k, queue: info_nce_loss(q, k, queue),
    "mocov3": lambda q, k, queue: mocov3_loss(q, k, keys=k),
    "ressl": lambda q, k, queue: ressl_loss(q, k, queue),
    "ressl, keys": lambda q, k, queue: ressl_loss(q, k, keys=k),
    "simclr": lambda q, k, queue: simclr_loss(q),
    "snclr": lambda q, k, queue: snclr_loss(q, k, queue, projection=q, topk=3),
    "ring": lambda q, k, queue: ring_loss(q, k, queue, outer=0.6, inner=0.25),
    "instance": lambda q, k, queue: instance_loss(
        q, queue.T, torch.arange(6), torch.full((6, 4), 0.3), ring=Ring(0.6, 0.25)
    ),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_half_inputs_under_autocast_are_computed_in_fp32(
    name: str, dtype: torch.dtype, batch: dict[str, Tensor]
) -> None:
    half = [batch[part].detach().to(dtype) for part in ("q", "k", "queue")]
    half[0].requires_grad_()
    whole = [x.detach().float() for x in half]
    whole[0].requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, parts = LOSSES[name](*half)
    expected, _ = LOSSES[name](*whole)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    found, wanted = gradient(loss, half[0]), gradient(expected, whole[0])
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.float(), wanted, rtol=2e-2, atol=2e-2)
    assert all(torch.isfinite(value) for value in parts.values())


def test_bad_shapes_are_refused(batch: dict[str, Tensor]) -> None:
    q = random_unit(1, 8, seed=0)
    for loss in (sce_loss, info_nce_loss, ressl_loss, mocov3_loss):
        with pytest.raises(ValueError, match="no candidate"):
            loss(q, q, keys=q)
    with pytest.raises(ValueError, match="width 8"):
        sce_loss(q, q, random_unit(4, 8, seed=1))
    with pytest.raises(ValueError, match="do not hold rank 2's 6 x 8"):
        sce_loss(batch["q"], batch["k"], keys=batch["keys"], rank=2)
    with pytest.raises(ValueError, match="must be equal"):
        info_nce_loss(q, batch["k"], batch["queue"])
    with pytest.raises(ValueError, match="no queue"):
        mocov3_loss(q, q, keys=None)
    with pytest.raises(ValueError, match="no negatives"):
        simclr_loss(q.repeat(2, 1))
    with pytest.raises(ValueError, match="is empty"):
        ring_loss(batch["q"], batch["k"], batch["queue"], outer=0.01)
    with pytest.raises(ValueError, match="topk 30 of a queue of 20"):
        snclr_loss(batch["q"], batch["k"], batch["queue"], projection=batch["q"])
    with pytest.raises(ValueError, match="21 neighbours of 20"):
        sce_loss(batch["q"], batch["k"], batch["queue"], neighbours=21)
    with pytest.raises(ValueError, match="do not fit"):
        instance_loss(q, batch["queue"], torch.zeros(1, dtype=torch.long), torch.zeros(1, 4))
