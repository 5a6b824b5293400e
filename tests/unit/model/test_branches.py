"""The pretraining network: which views meet which, what is remembered, what gets a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sce_video.config.tasks import PretrainConfig
from sce_video.engine.pretrain import build_siamese
from sce_video.model.branches import Branch, LabBranch, Siamese, SiameseOutput
from sce_video.model.splitbn import SplitBatchNorm2d
from sce_video.model.syncbn import SyncBatchNorm
from sce_video.objectives import instance_loss, sce_loss
from sce_video.objectives.base import Objective
from sce_video.objectives.build import build_objective

B, D, K = 6, 5, 40
ROWS, EPOCHS = np.arange(B), np.zeros(B, np.int64)


def config(objective: dict[str, Any], **model: Any) -> PretrainConfig:
    return PretrainConfig.model_validate(
        {
            "data": {"shards": "none"},
            "clip": {"frames": 2, "size": 32},
            "model": {"trunk": "r3d_18", "width": 4, "projector": {"hidden": 8, "dim": D}, **model},
            "objective": objective,
            "train": {"batch_size": B},
        }
    )


def objective(**section: Any) -> Objective:
    built = config({"queue": K, **section}).objective
    return build_objective(built, dim=D, seed=1, samples=9, epoch_steps=1)


def plain(**section: Any) -> Siamese:
    """Without BN, so that a batch is the sum of its parts; in float64."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.AdaptiveAvgPool3d((1, 2, 2)), nn.Flatten(), nn.Linear(12, 8))
    predictor = nn.Sequential(nn.Linear(D, D), nn.Tanh())
    return Siamese(Branch(trunk, nn.Linear(8, D)), predictor, objective(**section)).double()


def clips(sides: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    to = {"generator": generator, "dtype": torch.float64}
    return [torch.randn(B, 3, 1, side, side, **to) for side in sides]  # type: ignore[call-overload]


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=1)


def forward(net: Siamese, views: list[Tensor]) -> SiameseOutput:
    output: SiameseOutput = net(views, ROWS[: len(views[0])], EPOCHS[: len(views[0])])
    return output


@pytest.mark.parametrize("symmetric", [True, False])
def test_multi_crop_is_the_mean_over_ordered_pairs(symmetric: bool) -> None:
    net, views = plain(symmetric=symmetric), clips([8, 8, 6, 4])
    output = forward(net, views)
    assert net.momentum is not None
    queue = net.objective.get_buffer("queue.keys")
    keys = [unit(net.momentum(v)) for v in views[: 2 if symmetric else 1]]
    queries = [unit(net.predictor(net.online(v))) for v in views]
    losses = [
        sce_loss(q, k, queue)[0]
        for i, k in enumerate(keys)
        for j, q in enumerate(queries)
        if i != j
    ]
    assert len(losses) == (6 if symmetric else 3)  # G (V - 1)
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())
    torch.testing.assert_close(output.remembered, torch.stack(keys))


def test_two_micro_batches_are_one_batch_and_enqueue_once() -> None:
    whole, parts = plain(), plain()
    views = clips([4, 4])
    output = forward(whole, views)
    output.loss.backward()  # type: ignore[no-untyped-call]
    whole.end_step(output.remembered, output.rows, 0.9)
    halves = [forward(parts, [v[i : i + 3] for v in views]) for i in (0, 3)]
    for half in halves:
        (half.loss / 2).backward()  # type: ignore[no-untyped-call]
    # Both halves saw the queue as it was: the step's keys enter it together.
    remembered = torch.cat([half.remembered for half in halves], 1)
    parts.end_step(remembered, torch.cat([half.rows for half in halves]), 0.9)
    for (name, a), b in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None) == name.startswith("momentum")
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value)
    assert int(whole.objective.get_buffer("queue.pointer")) == 2 * B


def test_what_has_no_keys_has_no_momentum_encoder() -> None:
    for section in ({"name": "simclr"}, {"name": "ir", "negatives": 4}):
        built = config(section)
        net = build_siamese(built, None, samples=9, epoch_steps=1)
        assert net.momentum is None
        views = [torch.randn(B, 3, 2, 32, 32) for _ in range(built.views)]
        loss = forward(net, views).loss
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None for p in net.parameters())


def test_cmc_meets_each_stream_with_the_others_bank() -> None:
    built = config({"name": "cmc", "negatives": 7}, trunk="resnet18_small", predictor=None)
    net = build_siamese(built, None, samples=9, epoch_steps=1).eval()
    assert isinstance(net.online, LabBranch)
    assert built.views == 1
    view = torch.randn(B, 3, 1, 32, 32)
    output = forward(net, [view])
    lightness, colour = (unit(z) for z in net.online(view))
    banks = [net.objective.get_buffer(f"banks.{i}.vectors") for i in (0, 1)]
    rows = torch.from_numpy(ROWS)
    draws = [net.objective._draws(_samples(), stream) for stream in (0, 1)]  # type: ignore[operator]
    expected = (
        instance_loss(lightness, banks[1], rows, draws[0])[0]
        + instance_loss(colour, banks[0], rows, draws[1])[0]
    )
    torch.testing.assert_close(output.loss, expected)
    assert not torch.equal(draws[0], draws[1])
    before = [bank.clone() for bank in banks]
    net.end_step(output.remembered, output.rows, 0.9)
    for bank, old, z in zip(banks, before, (lightness, colour), strict=True):
        torch.testing.assert_close(bank[:B], unit(0.5 * old[:B] + 0.5 * z.detach()))
        assert torch.equal(bank[B:], old[B:])


def _samples() -> Any:
    from sce_video.objectives.base import Embeddings

    return Embeddings({}, {}, {}, ROWS, EPOCHS)


def test_split_bn_is_the_momentum_branchs_alone() -> None:
    section = {"name": "sce", "queue": K}
    net = build_siamese(
        config(section, trunk="resnet18_small", split_bn=3), None, samples=0, epoch_steps=1
    )
    kinds = {
        branch: {type(m) for m in getattr(net, branch).modules() if hasattr(m, "running_mean")}
        for branch in ("online", "momentum")
    }
    assert kinds == {"online": {SyncBatchNorm}, "momentum": {SplitBatchNorm2d, SyncBatchNorm}}
    output = forward(net, [torch.randn(B, 3, 1, 32, 32) for _ in range(2)])
    net.end_step(output.remembered, output.rows, 0.9)
    assert torch.isfinite(output.loss)


def test_embeddings_and_loss_are_fp32_under_autocast() -> None:
    net = build_siamese(
        config({"queue": K}, trunk="resnet18_small"), torch.bfloat16, samples=0, epoch_steps=1
    )
    output = forward(net, [torch.randn(B, 3, 1, 32, 32) for _ in range(2)])
    assert output.loss.dtype == output.remembered.dtype == torch.float32
    torch.testing.assert_close(output.remembered.norm(dim=2), torch.ones(2, B))
