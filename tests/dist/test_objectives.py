"""Every objective on two and three gloo ranks equals one rank with the whole batch."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from sce_video.config.objectives import ObjectiveConfig
from sce_video.model.siamese import Encoder, Siamese
from sce_video.objectives.build import build_objective

STEPS = {"sce": 50}  # the others: 12, in which a queue of 17 goes round several times
BATCH = 6  # global
SAMPLES = 30
# A queue that no batch divides wraps round its end.
SECTIONS: dict[str, dict[str, Any]] = {
    "sce": {"name": "sce", "queue": 17},
    "sce, all keys": {"name": "sce", "queue": 17, "gather_keys": True},
    "sce, batch only": {"name": "sce", "queue": None, "gather_keys": True},
    "sce, released code": {"name": "sce", "queue": 17, "positive_in_target": "zero_logit"},
    "sce, asymmetric": {"name": "sce", "queue": 17, "symmetric": False},
    "sce, ring and neighbours": {
        "name": "sce",
        "queue": 17,
        "negatives": "ring",
        "outer": 0.8,
        "neighbours": 2,
    },
    "info_nce": {"name": "info_nce", "queue": 17},
    "mocov3": {"name": "mocov3"},
    "ressl": {"name": "ressl", "queue": 17, "gather_keys": True},
    "simclr": {"name": "simclr"},
    "snclr": {"name": "snclr", "queue": 17, "topk": 3},
    "ring": {"name": "ring", "queue": 17, "outer": 0.5, "anneal": "linear", "anneal_epochs": 2},
    "ir": {"name": "ir", "negatives": 8},
    "ir, ring": {"name": "ir", "negatives": 8, "outer": 0.5, "inner": 0.1},
}


def network(name: str) -> Siamese:
    """In float64 and without BN, whose sum over ranks has its own test."""
    torch.manual_seed(0)
    section: Any = TypeAdapter(ObjectiveConfig).validate_python(SECTIONS[name])
    objective = build_objective(section, dim=5, seed=1, samples=SAMPLES, epoch_steps=10)
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh())
    predictor = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
    return Siamese(Encoder(trunk, nn.Linear(8, 5)), predictor, objective).double()


def train(name: str, rank: int, ranks: int, views: int) -> dict[str, Any]:
    """Losses of all steps, the first gradients, and the final state."""
    net, n = network(name), BATCH // ranks
    own = slice(rank * n, (rank + 1) * n)
    trained = [p for p in net.parameters() if p.requires_grad]
    losses: list[float] = []
    first: list[Tensor] = []
    for step in range(STEPS.get(name, 12)):
        generator = torch.Generator().manual_seed(step)
        clips = torch.randn(views, BATCH, 3, 1, 2, 2, generator=generator, dtype=torch.float64)
        rows = torch.randperm(SAMPLES, generator=generator)[:BATCH].numpy()
        net.objective.start_step(step)
        output = net(list(clips[:, own]), rows[own], np.full(n, step // 10))
        gradients = torch.autograd.grad(output.loss, trained)
        loss = output.loss.detach()
        for tensor in (loss, *gradients) if ranks > 1 else ():
            dist.all_reduce(tensor)
            tensor /= ranks
        losses.append(loss.item())
        first = first or [g.clone() for g in gradients]
        with torch.no_grad():
            for parameter, gradient in zip(trained, gradients, strict=True):
                parameter.sub_(gradient, alpha=0.05)
        net.end_step(output.remembered, output.rows, 0.9)
    return {"losses": losses, "gradients": first, "state": net.state_dict()}


def views_of(name: str) -> int:
    """Three, as in multi-crop, where it adds something."""
    return 1 if name.startswith("ir") else 3 if name in ("sce", "sce, asymmetric") else 2


def worker(rank: int, ranks: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    found = {name: train(name, rank, ranks, views_of(name)) for name in SECTIONS}
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Any]]:
    """What each of the ranks found, by objective."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(worker, (request.param, port, str(folder)), nprocs=request.param)  # type: ignore[no-untyped-call]
    yield [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("name", SECTIONS)
def test_ranks_equal_one(name: str, trained: list[Any]) -> None:
    alone = train(name, 0, 1, views_of(name))
    for rank in trained:
        found = rank[name]
        assert found["losses"] == pytest.approx(alone["losses"], rel=1e-7)
        for gradient, expected in zip(found["gradients"], alone["gradients"], strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
        for key, value in found["state"].items():
            torch.testing.assert_close(value, alone["state"][key], rtol=1e-6, atol=1e-8)
            assert torch.equal(value, trained[0][name]["state"][key]), key  # the queue, too


@pytest.mark.parametrize("name", SECTIONS)
def test_the_loss_falls(name: str) -> None:
    """On one batch again and again, so that a sign or a detached branch would show."""
    net = network(name)
    clips = torch.randn(views_of(name), BATCH, 3, 1, 2, 2, dtype=torch.float64)
    clips += 2 * clips[:1]  # views of a sample resemble each other
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.03)
    losses = []
    for _ in range(25):
        output = net(list(clips), np.arange(BATCH), np.zeros(BATCH, np.int64))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert losses[-1] < 0.8 * losses[0]
