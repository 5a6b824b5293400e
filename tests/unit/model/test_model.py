"""Encoder files, queue, momentum encoder, and one symmetric step, against independent numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from sce_video.errors import UsageError
from sce_video.model.encoder import EncoderSpec, load_encoder, save_encoder
from sce_video.model.memory import Queue
from sce_video.model.momentum import momentum_copy, update_momentum
from sce_video.model.trunks import build_trunk
from sce_video.objectives.sce import sce_loss
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


@pytest.mark.parametrize(("size", "n"), [(12, 4), (12, 5), (7, 7), (10, 3)])
def test_queue_is_a_ring_for_any_batch_size(size: int, n: int) -> None:
    queue = Queue(3, size, seed=0)
    torch.testing.assert_close(queue.keys.norm(dim=0), torch.ones(size))
    written = []
    for step in range(9):
        keys = torch.full((n, 3), float(step)) + torch.arange(n)[:, None] / 100
        queue.enqueue(keys)
        written += keys.tolist()
    expected = {tuple(key) for key in written[-size:]}
    assert {tuple(key) for key in queue.keys.T.tolist()} == expected
    assert int(queue.pointer) == 9 * n % size
    with pytest.raises(ValueError, match="do not fit"):
        queue.enqueue(torch.zeros(size + 1, 3))


def test_queue_starts_equal_everywhere() -> None:
    torch.manual_seed(1)
    first = Queue(4, 8, seed=5).keys
    torch.manual_seed(2)
    assert torch.equal(first, Queue(4, 8, seed=5).keys)


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


@pytest.mark.parametrize("number", [0, 1])
def test_symmetric_steps_and_queue_golden(number: int) -> None:
    case = json.loads((GOLDEN / "sce_symmetric_step.json").read_text())["cases"][number]
    params = case["params"]
    initial = torch.tensor(case["inputs"]["queue_initial_DxK"], dtype=torch.float64)
    queue = Queue(initial.shape[0], initial.shape[1], seed=0).double()
    queue.keys.copy_(initial)
    ranks, n = params["world_size"], params["batch_size"]
    for step in case["steps"]:
        q, k = (torch.tensor(step[f"{name}_views_all_ranks"], dtype=torch.float64) for name in "qk")
        for rank in range(ranks):
            own = slice(rank * n, (rank + 1) * n)
            losses = []
            for i, j in ((0, 1), (1, 0)):
                loss, _ = sce_loss(
                    q[j][own],
                    k[i][own],
                    queue.keys,
                    k[i] if params["use_keys"] else None,
                    rank,
                    coeff=params["coeff"],
                    temp=params["temp"],
                    temp_m=params["temp_m"],
                    positive_in_target="zero_logit",
                )
                losses.append(loss)
            expected = step["expected"]["float64"]["loss_per_rank"][rank]
            assert torch.stack(losses).mean().item() == pytest.approx(expected, rel=1e-9)
        queue.enqueue(torch.cat([k[0], k[1]]))
        assert int(queue.pointer) == step["expected_queue_ptr_after"]
        after = torch.tensor(step["expected_queue_after_DxK"], dtype=torch.float64)
        torch.testing.assert_close(queue.keys, after)
