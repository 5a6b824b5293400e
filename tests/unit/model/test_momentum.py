"""The momentum encoder against golden vectors."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from sce_video.model.momentum import momentum_copy, update_momentum
from tests.conftest import GOLDEN


def test_momentum_update_golden() -> None:
    cases = json.loads((GOLDEN / "schedules.json").read_text())["cases"]
    case = next(c for c in cases if c["name"] == "ema_update")
    online = nn.Linear(3, 2, dtype=torch.float64)
    target = momentum_copy(online)
    assert not any(p.requires_grad for p in target.parameters())
    load(target, case["inputs"]["target_initial"])
    for step in case["steps"]:
        load(online, step["online_after_optimizer_step"])
        update_momentum(target, online, step["momentum"])
        for name, value in step["expected_target"].items():
            expected = torch.tensor(value, dtype=torch.float64)
            torch.testing.assert_close(target.get_parameter(name).detach(), expected)


def load(module: nn.Module, values: dict[str, Any]) -> None:
    tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    module.load_state_dict(tensors)
