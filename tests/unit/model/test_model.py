"""Encoder files and the momentum encoder, against independent numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from sce_video.errors import UsageError
from sce_video.model.encoder import EncoderSpec, load_encoder, save_encoder
from sce_video.model.momentum import momentum_copy, update_momentum
from sce_video.model.trunks import build_trunk
from tests.conftest import GOLDEN


def test_an_encoder_file_says_how_to_build_itself(tmp_path: Any) -> None:
    spec = EncoderSpec(
        trunk="r2plus1d_18", width=4, frames=4, seconds=1.0, size=32, mean=(0.1,) * 3, std=(1,) * 3
    )
    trunk = build_trunk("r2plus1d_18", 4).eval()
    save_encoder(tmp_path / "encoder.safetensors", trunk, spec)
    loaded, found = load_encoder(tmp_path)
    assert found == spec
    clip = torch.randn(1, 3, 4, 32, 32)
    torch.testing.assert_close(loaded(clip), trunk(clip), rtol=0, atol=0)
    (tmp_path / "encoder.safetensors").write_bytes(b"\x80\x04 not safetensors")
    with pytest.raises(UsageError, match="not an encoder"):
        load_encoder(tmp_path)


def test_the_group_may_read_an_encoder(tmp_path: Any, for_the_group: int) -> None:
    spec = EncoderSpec(
        trunk="r3d_18", width=4, frames=4, seconds=1.0, size=32, mean=(0.1,) * 3, std=(1,) * 3
    )
    save_encoder(path := tmp_path / "encoder.safetensors", build_trunk("r3d_18", 4), spec)
    assert path.stat().st_mode & 0o777 == for_the_group


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
