"""LARS against the reference implementation's numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from sce_video.engine.optim.lars import LARS
from tests.conftest import GOLDEN

LARS_CASES = json.loads((GOLDEN / "lars.json").read_text())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", LARS_CASES["cases"], ids=lambda c: c["name"])
def test_lars_golden(case: dict[str, Any], dtype: str) -> None:
    p, tolerance = case["params"], LARS_CASES["tolerance"][dtype]
    to = {"dtype": getattr(torch, dtype)}
    weights = {
        name: torch.nn.Parameter(torch.tensor(value, **to))
        for name, value in case["inputs"]["params"].items()
    }
    groups: list[dict[str, Any]] = [
        {"params": [w for w in weights.values() if w.ndim > 1]},
        {"params": [w for w in weights.values() if w.ndim <= 1], "adapt": False},
    ]
    optimizer = LARS(
        groups,
        lr=0.0,
        momentum=p["momentum"],
        weight_decay=p["weight_decay"],
        trust=p["trust_coefficient"],
    )
    for step, gradients in enumerate(case["inputs"]["grads_per_step"]):
        for name, weight in weights.items():
            value = gradients.get(name)
            weight.grad = None if value is None else torch.tensor(value, **to)
        for group in optimizer.param_groups:
            group["lr"] = p["lr_per_step"][step]
        optimizer.step()
        for name, expected in case["expected_after_step"][dtype][step]["params"].items():
            torch.testing.assert_close(
                weights[name].detach(),
                torch.tensor(expected, **to),
                rtol=tolerance["rtol"],
                atol=tolerance["atol"],
                msg=f"{name} after step {step}",
            )
