"""The online linear layer against torch's own autograd and Adam."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from sce_video.model.probe import LinearProbe


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_equals_autograd_and_adam() -> None:
    torch.manual_seed(0)
    probe = LinearProbe(6, 4, seed=3)
    linear = torch.nn.Linear(6, 4)
    linear.weight.data.copy_(probe.weight[:, :-1])
    linear.bias.data.copy_(probe.weight[:, -1])
    adam = torch.optim.Adam(linear.parameters(), lr=1e-4)
    for _ in range(20):
        x, y = torch.randn(10, 6), torch.randint(-1, 4, (10,))
        loss = F.cross_entropy(linear(x), y, ignore_index=-1)
        right = (linear(x).argmax(1) == y)[y >= 0].float().mean()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        told = [probe.learn(x[part], y[part]) for part in (slice(0, 3), slice(3, 10))]
        probe.end_step()
        for name, expected in (("probe_loss", loss), ("probe_top1", right)):
            sums, counts = zip(*(t[name] for t in told), strict=True)
            assert sum(counts) == (y >= 0).sum()
            assert float(sum(sums) / sum(counts)) == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(probe.weight[:, :-1], linear.weight.data)
    torch.testing.assert_close(probe.weight[:, -1], linear.bias.data)
    x = torch.randn(2, 6)
    torch.testing.assert_close(probe.logits(x), linear(x).detach())


def test_a_batch_without_labels_is_no_step() -> None:
    probe = LinearProbe(6, 4, seed=3)
    for step in range(3):  # before the first step, and after some
        before = {name: x.clone() for name, x in probe.named_buffers()}
        told = probe.learn(torch.randn(3, 6), torch.full((3,), -1))
        probe.end_step()
        assert all(sums == 0 and count == 0 for sums, count in told.values())
        assert all(torch.equal(x, before[name]) for name, x in probe.named_buffers())
        probe.learn(torch.randn(3, 6), torch.tensor([-1, 2, 1]))
        probe.end_step()
        assert int(probe.steps) == step + 1


def test_the_network_meets_none_of_it() -> None:
    probe = LinearProbe(6, 4, seed=3)
    assert not list(probe.parameters())
    state = torch.get_rng_state()
    assert torch.equal(LinearProbe(6, 4, seed=3).weight, probe.weight)
    assert torch.equal(torch.get_rng_state(), state)
    features = torch.randn(3, 6, requires_grad=True)
    probe.learn(features, torch.tensor([0, 1, 2]))
    probe.end_step()
    assert features.grad is None
