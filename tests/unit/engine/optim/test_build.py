"""The optimizer's two groups: what is decayed and adapted, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sce_video.config.sections import OptimConfig
from sce_video.engine.optim.build import build_optimizer
from sce_video.engine.optim.lars import LARS


@pytest.mark.parametrize(
    ("name", "kind"),
    [("lars", LARS), ("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)],
    ids=["lars", "sgd", "adamw"],
)
def test_biases_and_norms_are_exempt(name: Any, kind: type) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    net[2].weight.requires_grad_(False)
    optim = OptimConfig(name=name, lr=0.3, momentum=0.8, weight_decay=0.02)
    optimizer = build_optimizer(net, optim)
    assert type(optimizer) is kind
    weights, exempt = optimizer.param_groups
    assert [tuple(p.shape) for p in weights["params"]] == [(4, 3, 3, 3)]
    assert [tuple(p.shape) for p in exempt["params"]] == [(4,), (4,), (4,), (2,)]
    assert (weights["weight_decay"], exempt["weight_decay"]) == (0.02, 0.0)
    assert (weights["lr"], exempt["lr"]) == (0.3, 0.3)
    assert weights.get("momentum", 0.8) == 0.8
    assert [group.get("adapt") for group in (weights, exempt)] == (
        [True, False] if name == "lars" else [None, None]
    )
