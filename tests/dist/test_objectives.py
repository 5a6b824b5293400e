"""Every objective on two and three gloo ranks equals one rank with the whole batch."""

from __future__ import annotations

import json
from functools import partial
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
from sce_video.model.branches import Branch, LabBranch, Siamese
from sce_video.objectives.build import build_objective
from tests.conftest import GOLDEN

STEPS = {"sce": 24}  # the others: 12, in which a queue of 17 goes round several times
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
    "cmc": {"name": "cmc", "negatives": 8},
}


class TwoTrunks(nn.Module):
    """Stands for CMC's: one sees the first channel, one the others."""

    def __init__(self) -> None:
        super().__init__()
        self.lightness = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.Tanh())
        self.colour = nn.Sequential(nn.Flatten(), nn.Linear(8, 8), nn.Tanh())

    def split(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        return clip[:, :1], clip[:, 1:]

    def forward(self, clip: Tensor) -> Tensor:
        lightness, colour = self.split(clip)
        return torch.cat([self.lightness(lightness), self.colour(colour)], 1)


def network(name: str) -> Siamese:
    """In float64 and without BN, whose sum over ranks has its own test."""
    torch.manual_seed(0)
    section: Any = TypeAdapter(ObjectiveConfig).validate_python(SECTIONS[name])
    objective = build_objective(section, dim=5, seed=1, samples=SAMPLES, epoch_steps=10)
    if name == "cmc":
        heads = [nn.Linear(8, 5) for _ in range(2)]
        streams = LabBranch(TwoTrunks(), heads)  # type: ignore[arg-type]
        return Siamese(streams, nn.Identity(), objective).double()
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh())
    predictor = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
    return Siamese(Branch(trunk, nn.Linear(8, 5)), predictor, objective).double()


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
    return 1 if name.startswith(("ir", "cmc")) else 3 if name in ("sce", "sce, asymmetric") else 2


class Pick(nn.Module):
    """Stands for an encoder: takes what a view holds for the online or the momentum branch."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, view: Tensor) -> Tensor:
        return view[:, self.place]


def golden_steps(case: dict[str, Any], dtype: str, rank: int, ranks: int) -> list[dict[str, Any]]:
    """The published symmetric step with the queue of every rank, through the whole network."""
    params, to = case["params"], getattr(torch, dtype)
    section: Any = TypeAdapter(ObjectiveConfig).validate_python(
        {
            "name": "sce",
            "queue": params["queue_size"],
            "gather_keys": params["use_keys"],
            "positive_in_target": "zero_logit",
            **{key: params[key] for key in ("coeff", "temp", "temp_m")},
        }
    )
    initial = torch.tensor(case["inputs"]["queue_initial_DxK"], dtype=to)
    objective = build_objective(section, dim=len(initial), seed=0, samples=0, epoch_steps=1)
    net = Siamese(Branch(Pick(0), nn.Identity()), nn.Identity(), objective)
    net.momentum = Branch(Pick(1), nn.Identity()).requires_grad_(False)
    net = net.to(to)
    net.objective.get_buffer("queue.keys").copy_(initial)
    n, found = params["batch_size"], []
    for step in case["steps"]:
        both = [torch.tensor(step[f"{x}_views_all_ranks"], dtype=to) for x in "qk"]
        own = torch.stack(both, 2)[:, rank * n : (rank + 1) * n].requires_grad_()
        output = net(list(own), np.arange(n), np.zeros(n, np.int64))
        (gradient,) = torch.autograd.grad(output.loss, own)
        net.end_step(output.remembered, output.rows, 0.9)
        found.append(
            {
                "loss": output.loss.item(),
                "gradient": gradient[:, :, 0],
                "queue": net.objective.get_buffer("queue.keys").clone(),
                "pointer": int(net.objective.get_buffer("queue.pointer")),
            }
        )
    return found


GOLDEN_STEPS = json.loads((GOLDEN / "sce_symmetric_step.json").read_text())


def worker(rank: int, folder: str) -> None:
    """A rank of three, then, but for the last, of two."""
    torch.set_num_threads(1)
    for ranks in (3, 2):
        if rank < ranks:
            address = f"file://{folder}/{ranks}"  # a port may be taken meanwhile
            dist.init_process_group("gloo", address, rank=rank, world_size=ranks)
            found = {name: train(name, rank, ranks, views_of(name)) for name in SECTIONS}
            golden = {}
            if ranks == 2:
                for case in GOLDEN_STEPS["cases"]:
                    for dtype in ("float64", "float32"):
                        golden[case["name"], dtype] = golden_steps(case, dtype, rank, ranks)
            torch.save((found, golden), Path(folder) / f"{rank}of{ranks}.pt")
            dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Any]]:
    """What each rank found, by the number of ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(worker, (str(folder),), nprocs=3)  # type: ignore[no-untyped-call]
    return {n: [torch.load(folder / f"{r}of{n}.pt") for r in range(n)] for n in (3, 2)}


@pytest.mark.parametrize("name", SECTIONS)
def test_ranks_equal_one(name: str, trained: dict[int, list[Any]]) -> None:
    alone = train(name, 0, 1, views_of(name))
    for ranks in trained.values():
        for found in (everything[name] for everything, _ in ranks):
            assert found["losses"] == pytest.approx(alone["losses"], rel=1e-7)
            for gradient, expected in zip(found["gradients"], alone["gradients"], strict=True):
                torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
            for key, value in found["state"].items():
                torch.testing.assert_close(value, alone["state"][key], rtol=1e-6, atol=1e-8)
                # all ranks hold the same queue or bank, bit for bit
                assert torch.equal(value, ranks[0][0][name]["state"][key]), key


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", GOLDEN_STEPS["cases"], ids=lambda case: case["name"])
def test_symmetric_steps_golden(
    case: dict[str, Any], dtype: str, trained: dict[int, list[Any]]
) -> None:
    tolerance = GOLDEN_STEPS["tolerance"][dtype]
    double = partial(torch.tensor, dtype=torch.float64)
    # The inputs' lengths differ from 1 by up to 6e-10; the network makes them 1.
    atol = max(tolerance["atol"], 5e-9)
    close = partial(torch.testing.assert_close, rtol=tolerance["rtol"], atol=atol)
    for rank, (_, golden) in enumerate(trained[2]):
        steps = zip(case["steps"], golden[case["name"], dtype], strict=True)
        n = case["params"]["batch_size"]
        for step, found in steps:
            expected = step["expected"][dtype]
            assert found["loss"] == pytest.approx(
                expected["loss_per_rank"][rank], rel=tolerance["rtol"], abs=tolerance["atol"]
            )
            q = double(step["q_views_all_ranks"])[:, rank * n : (rank + 1) * n]
            gradient = double(expected["grad_q_per_rank_per_view"][rank])
            # The network normalises: what would change the length of q is gone.
            gradient -= (gradient * q).sum(2, keepdim=True) * q
            close(found["gradient"].double(), gradient)
            assert found["pointer"] == step["expected_queue_ptr_after"]
            after = torch.tensor(step["expected_queue_after_DxK"], dtype=found["queue"].dtype)
            close(found["queue"], after)


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
