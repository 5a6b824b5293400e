"""The plan of a run: counted without tensors, equal to what real ones hold."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sce_video.config import load_pretraining
from sce_video.engine.cost import cost
from sce_video.engine.pretrain import build_siamese
from sce_video.engine.preview import describe
from sce_video.stream.data import planned_data
from tests.runs import TRAIN, run

SMALL = ("model.width=8", "clip.size=32", "clip.frames=4", "train.batch_size=8")
K400 = "pretrain/sce_k400_r2plus1d_18.yaml"


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.trunk=r3d_18",),
        ("train.precision=bf16", "objective={name: info_nce, symmetric: false, queue: 64}"),
        ("model.predictor=null", "objective={name: cmc, negatives: 7}"),
    ],
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


def test_memory_and_traffic_by_stage_ranks_and_accumulation() -> None:
    def of(ranks: int, *overrides: str) -> tuple[dict[str, float], dict[str, float]]:
        config = load_pretraining("demo.yaml", [*SMALL, *overrides])
        plan, _ = planned_data(config, 64, ranks)
        need = cost(config, plan, bf16=False, cuda=True)
        return {k: v / (4 * need.trained) for k, v in need.memory.items()}, {
            k: v / (4 * need.trained) for k, v in need.sent.items()
        }

    stage = "deepspeed.zero_optimization.stage"
    memory, sent = of(1)
    assert (memory["optimizer"], memory["gradients"]) == (3, 1)  # AdamW and ZeRO's master copy
    assert set(sent.values()) == {0}
    memory, sent = of(4, f"{stage}=0", "optim.name=lars")
    assert (memory["optimizer"], memory["gradients"], memory["ZeRO's buffer"]) == (1, 1, 0)
    assert sent["gradients and weights"] == 2 * 3 / 4
    memory, sent = of(4, f"{stage}=2", "train.accumulate=2", "optim.name=lars")
    assert (memory["optimizer"], memory["gradients"]) == (2 / 4, 1 / 4)
    assert sent["gradients and weights"] == 5 * 3 / 4
    assert of(4, "train.accumulate=2")[1]["gradients and weights"] == 3 * 3 / 4
    assert of(2)[0]["activations"] == pytest.approx(of(1)[0]["activations"] / 2, rel=0.02)


def test_the_plan_says_what_the_run_will_do() -> None:
    config = load_pretraining(K400)
    text = describe(config, planned_data(config, None, 8)[0], cuda=True)
    assert "ZeRO-1, 8 rank(s) on cuda, bf16 autocast" in text
    assert "2 clips of 16 frames over 1.28 s, 112 px" in text
    assert "512 = 8 rank(s) x 1 micro-batch(es) of 64" in text
    assert "93,800 = 200 epochs x 469\n" in text
    assert "lars lr 2.4, 4.8 after scaling (linear), warm-up 16,415 steps, cosine to 0" in text
    assert "queue or bank 0.0625" in text
    short = load_pretraining(K400, ["run.max_steps=20", "optim.decay_epochs=[120, 160]", *SMALL])
    text = describe(short, planned_data(short, 9_000, 1)[0], cuda=False)
    assert "steps      20 (run.max_steps), on the schedules of 225,000 = 200 epochs" in text
    assert "x 0.1 at epochs [120.0, 160.0]" in text
    assert "the queue of 65,536 holds more than a quarter of the set's 18,000 keys" in text


@pytest.mark.slow
def test_a_dry_run_needs_no_shards_and_leaves_nothing(tmp_path: Path) -> None:
    def dry(*arguments: str) -> tuple[int, str]:
        done = run(sys.executable, TRAIN, *arguments, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr

    code, text = dry("--dry-run", "--gpus", "8")
    assert code == 0, text
    assert "240,436 videos (the published set's; no shards here)" in text
    assert "8 rank(s) on cuda" in text
    code, text = dry("--dry-run", "--config", "demo.yaml")
    assert (code, text.count("\n")) == (2, 1)
    assert "shards/demo: no shards here, and no set of known size; give --samples N" in text
    code, text = dry("--dry-run", "--samples", "100")
    assert (code, text.count("\n")) == (2, 1)
    assert "100 samples has no full batch of 512" in text
    code, text = dry("--samples", "1000")
    assert code == 2
    assert "--gpus and --samples go with --dry-run" in text
    assert not any(tmp_path.iterdir())


def test_a_warm_up_beyond_the_end_is_a_warning() -> None:
    config = load_pretraining("demo.yaml", [*SMALL, "optim.warmup_epochs=50", "train.epochs=2"])
    plan, _ = planned_data(config, 64, 1)
    told = describe(config, plan, cuda=False)
    assert "warning    the learning rate warms up for 50 epochs, and the run has 2" in told
