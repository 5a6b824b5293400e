"""What a step costs: counted without tensors, equal to what real ones hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sce_video.config.load import load_pretraining
from sce_video.engine import cost as costs
from sce_video.engine.cost import REACHED, cost, gpu_hours
from sce_video.engine.pretrain import build_siamese
from sce_video.stream.data import planned_data

SMALL = ("model.width=8", "clip.size=32", "clip.frames=4", "train.batch_size=8")


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.trunk=r3d_18",),
        ("train.precision=bf16", "objective={name: info_nce, symmetric: false, queue: 64}"),
        ("model.predictor=null", "objective={name: cmc, negatives: 7}"),
    ],
    ids=["r3d_18", "bf16 info_nce", "cmc"],
)
def test_parameters_and_activations_are_those_of_real_tensors(overrides: tuple[str, ...]) -> None:
    config = load_pretraining("demo.yaml", [*SMALL, *overrides])
    plan, _ = planned_data(config, 64, 1)
    bf16 = config.train.precision == "bf16"
    state = torch.get_rng_state()
    need = cost(config, plan, bf16=bf16, cuda=False)
    assert torch.equal(torch.get_rng_state(), state)

    dtype = torch.bfloat16 if bf16 else None
    net = build_siamese(config, dtype, samples=plan.samples, epoch_steps=plan.steps_per_epoch)
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert need.trained == trained
    frozen = sum(p.numel() for p in net.parameters()) - trained
    assert need.memory["weights"] == 4 * (trained + frozen)
    assert need.memory["queue or bank"] == sum(b.nbytes for b in net.objective.buffers())
    views = [torch.rand(8, 3, 4, 32, 32) for _ in range(config.views)]
    own = {x.untyped_storage().data_ptr() for x in (*net.parameters(), *net.buffers(), *views)}
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    rows = np.arange(8)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        held = net(views, rows, rows)  # its graph keeps what was packed
    assert torch.isfinite(held.loss)
    expected = sum(kept.values()) + sum(view.nbytes for view in views)
    assert need.memory["activations"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("name", "measured"),
    [("sce_k400_r2plus1d_18", 31.2), ("sce_k400_r3d_50_8frames", 44.0)],
)
@pytest.mark.slow
def test_memory_is_what_a_gpu_held(name: str, measured: float) -> None:
    """GiB at the peak of one NVIDIA H200, bf16, 64 videos a step, plain torch (as ZeRO-0)."""
    config = load_pretraining(
        f"pretrain/{name}.yaml",
        ["train.batch_size=64", "deepspeed.zero_optimization.stage=0"],
    )
    need = cost(config, planned_data(config, 240_000, 1)[0], bf16=True, cuda=True)
    assert sum(need.memory.values()) / 2**30 == pytest.approx(measured, rel=0.15)


@pytest.mark.slow
def test_pooling_keeps_a_copy_on_a_cpu_alone() -> None:
    """The CPU's autocast pools in fp32: R3D-50's widest activation is kept twice."""
    config = load_pretraining("demo.yaml", [*SMALL, "model.trunk=r3d_50"])
    plan, _ = planned_data(config, 64, 1)
    cpu, gpu = (
        cost(config, plan, bf16=True, cuda=cuda).memory["activations"] for cuda in (False, True)
    )
    widest, pooled = (8 * 8 * 4 * side**2 for side in (16, 8))  # of a view, elements
    # The copy in fp32, and what comes out of it cast back to bf16 for the convolutions.
    assert cpu - gpu == pytest.approx(2 * (4 * widest + 2 * pooled), rel=0.01)


def test_hours_of_a_gpu_and_what_they_are_computed_with() -> None:
    """Two digits, at the rate that was measured with the trunk, else the lowest one."""
    hours = {}
    for trunk in ("r2plus1d_18", "r3d_50", "resnet18"):
        config = load_pretraining("demo.yaml", [*SMALL, f"model.trunk={trunk}"])
        step = cost(config, planned_data(config, 64, 1)[0], bf16=True, cuda=True)
        for bf16 in (True, False):
            steps = round(1234 * 3600 * REACHED["r3d_50"] / step.flops)
            hours[trunk, bf16] = gpu_hours(config, step, steps, bf16=bf16)
    assert str(hours["r3d_50", True]) == (
        "1,200 H200-hours, computed at the 79 TFLOP/s that one H200 reached"
    )
    assert hours["resnet18", True].rate == "the 79 TFLOP/s that one H200 reached with r3d_50"
    assert hours["resnet18", False].hours == pytest.approx(2 * 1234)
    assert hours["resnet18", False].rate == (
        "half the 79 TFLOP/s that one H200 reached with r3d_50 in bf16"
    )
    assert hours["r2plus1d_18", True].hours == pytest.approx(1234 * 79 / 91)
    assert hours["r2plus1d_18", True].rate == "the 91 TFLOP/s that one H200 reached"


def test_what_checkpointing_saves_and_costs() -> None:
    """Inputs of 8 blocks are kept instead of all that is in them; the forward pass runs again."""
    config = load_pretraining("demo.yaml", SMALL)
    plan, _ = planned_data(config, 64, 1)
    plain = cost(config, plan, bf16=False, cuda=False)
    again = {"train": config.train.model_copy(update={"checkpoint_activations": True})}
    less = cost(config.model_copy(update=again), plan, bf16=False, cuda=False)
    assert 0.05 < less.memory["activations"] / plain.memory["activations"] < 0.4
    assert less.flops / plain.flops == pytest.approx(5 / 4, rel=0.01)


def test_a_probe_is_a_collective_of_its_own() -> None:
    config = load_pretraining("demo.yaml", SMALL)
    plan, _ = planned_data(config, 64, 2)
    sent = cost(config, replace(plan, classes=10), bf16=False, cuda=False).sent
    assert sent["linear probe"] == 4 * 10 * (8 * config.model.width + 1)
    assert cost(config, plan, bf16=False, cuda=False).sent["linear probe"] == 0


def test_work_is_that_of_the_published_trunk() -> None:
    config = load_pretraining("pretrain/sce_imagenet_resnet50_200ep.yaml", ["train.batch_size=8"])
    plan, _ = planned_data(config, 64, 1)
    need = cost(config, plan, bf16=True, cuda=True)
    macs = 4.09e9  # ResNet-50 at 224, torchvision's table
    # Two views; forward in both branches, backward twice as much in one.
    assert need.flops / 8 == pytest.approx(2 * 4 * 2 * macs, rel=0.02)


def test_ranks_share_the_activations() -> None:
    config = load_pretraining("demo.yaml", SMALL)
    alone, half = (
        cost(config, planned_data(config, 64, ranks)[0], bf16=False, cuda=True).memory
        for ranks in (1, 2)
    )
    assert half["activations"] == pytest.approx(alone["activations"] / 2, rel=0.02)


def test_memory_and_traffic_by_stage_ranks_and_accumulation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the networks are."""
    passes = costs._Passes(saved=1000, flops=1, weights=100, remembered=5)
    monkeypatch.setattr(costs, "_passes", lambda *_, bf16, cuda: passes)

    def of(ranks: int, *overrides: str) -> tuple[dict[str, float], dict[str, float]]:
        config = load_pretraining("demo.yaml", [*SMALL, *overrides])
        plan, _ = planned_data(config, 64, ranks)
        need = cost(config, plan, bf16=False, cuda=True)
        return {k: v / (4 * need.trained) for k, v in need.memory.items()}, {
            k: v / (4 * need.trained) for k, v in need.sent.items()
        }

    stage = "deepspeed.zero_optimization.stage"
    memory, sent = of(1)
    assert memory["activations"] == 1000 / 400
    assert (memory["optimizer"], memory["gradients"]) == (3, 1)  # AdamW and ZeRO's master copy
    assert set(sent.values()) == {0}
    memory, sent = of(4, f"{stage}=0", "optim.name=lars")
    assert (memory["optimizer"], memory["gradients"], memory["ZeRO's buffer"]) == (1, 1, 0)
    assert sent["gradients and weights"] == 2 * 3 / 4
    memory, sent = of(4, f"{stage}=2", "train.accumulate=2", "optim.name=lars")
    assert (memory["optimizer"], memory["gradients"]) == (2 / 4, 1 / 4)
    assert sent["gradients and weights"] == 5 * 3 / 4
    assert of(4, "train.accumulate=2")[1]["gradients and weights"] == 3 * 3 / 4
    assert of(3, "train.batch_size=12")[1]["embeddings"] == 2 * 5 / 400


def test_bn_groups_send_among_themselves() -> None:
    def sent(group: str) -> float:
        config = load_pretraining("demo.yaml", [*SMALL, f"model.bn_group={group}"])
        plan, _ = planned_data(config, 64, 8)
        return cost(config, plan, bf16=False, cuda=False).sent["SyncBN"]

    everyone = sent("null")
    assert sent("8") == everyone
    assert sent("2") == pytest.approx(everyone * (1 / 2) / (7 / 8))
    assert sent("1") == 0
