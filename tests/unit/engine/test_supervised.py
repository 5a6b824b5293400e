"""Training with labels, up to the loop."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sce_video.config.tasks import SupervisedConfig
from sce_video.engine.cost import cost
from sce_video.engine.preview import describe
from sce_video.engine.runtime import Runtime
from sce_video.engine.supervised import SupervisedTask, build_classifier
from sce_video.stream.feed import Ready
from sce_video.stream.loader import ClipBatch
from sce_video.stream.order import BatchPlan

SECTIONS: dict[str, Any] = {
    "data": {"shards": "none"},
    "clip": {"frames": 4, "seconds": 0.6, "size": 32},
    "model": {"trunk": "r2plus1d_18_small", "width": 2},
}


def supervised(task: str = "finetune", init: Path | None = None, **sections: Any) -> Any:
    tree = {**SECTIONS, "task": task, "augment": {"recipe": "video_linear"}}
    tree["run"] = {"init_from": init and str(init)}
    return SupervisedConfig.model_validate(tree | sections)


def plan(config: Any, ranks: int = 1) -> BatchPlan:
    rows = np.arange(64)
    return BatchPlan(
        rows=rows,
        shard_of=0 * rows,
        digest="",
        seed=0,
        epochs=2,
        batch_size=config.train.batch_size,
        ranks=ranks,
        classes=3,
    )


@pytest.mark.parametrize("task", ["linear", "finetune"])
def test_the_loss_is_the_cross_entropy_of_a_batch(task: str) -> None:
    config = supervised(task, head={"dropout": 0.5}, train={"batch_size": 4, "precision": "fp32"})
    index: Any = SimpleNamespace(manifest=SimpleNamespace(classes=("a", "b", "c")))
    runtime = Runtime(0, 1, torch.device("cpu"))
    made = SupervisedTask(config, index, plan(config), runtime)
    clips = torch.randint(256, (4, 4, 3, 32, 32), dtype=torch.uint8)
    rows, labels = np.arange(4), torch.tensor([0, 1, 2, 1])
    batch = ClipBatch([clips], rows, rows * 0, labels, names=["x"] * 4)
    views = made.views(batch)
    assert made.picture(views) is not None
    torch.manual_seed(3)
    outcome = made.loss(made.module, Ready(batch, views, labels), 0)
    outcome.loss.backward()  # type: ignore[no-untyped-call]
    torch.manual_seed(3)
    logits = made.module(*views).detach().double().numpy()
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert outcome.loss.item() == pytest.approx(-np.log(shares[rows, labels]).mean(), rel=1e-5)
    right = (logits.argmax(1) == labels.numpy()).mean()
    assert outcome.parts["top1"].item() == pytest.approx(right)
    grads = {name for name, p in made.module.named_parameters() if p.grad is not None}
    everything = {name for name, _ in made.module.named_parameters()}
    assert grads == ({"linear.weight", "linear.bias"} if task == "linear" else everything)


@pytest.mark.parametrize("task", [pytest.param("linear", marks=pytest.mark.slow), "finetune"])
def test_the_plan_counts_what_is_trained_and_kept(task: str) -> None:
    config = supervised(task, train={"batch_size": 8}, optim={"name": "sgd"})
    need = cost(config, plan(config), bf16=False, cuda=False)
    net = build_classifier(config, 3)
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert need.trained == trained
    assert need.memory["weights"] == 4 * sum(p.numel() for p in net.parameters())
    assert need.memory["gradients"] == 4 * trained
    clip = torch.randn(8, 3, 4, 32, 32)
    own = {x.untyped_storage().data_ptr() for x in (*net.parameters(), *net.buffers(), clip)}
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        held = net(clip)  # its graph keeps what was packed
    assert held.shape == (8, 3)
    assert need.memory["activations"] == pytest.approx(clip.nbytes + sum(kept.values()), rel=0.02)
    if task == "linear":
        other = supervised("finetune", train={"batch_size": 8})
        flops = cost(other, plan(other), bf16=False, cuda=False).flops
        assert need.flops / flops == pytest.approx(1 / 3)
    sent = cost(config, plan(config, 2), bf16=False, cuda=False).sent
    assert (sent["SyncBN"] > 0) == (task == "finetune")
    text = describe(config, plan(config), cuda=False)
    trunk = "frozen" if task == "linear" else "trained"
    assert f"head       linear layer of 3 classes, dropout 0, on the {trunk} trunk" in text
    assert "start      random weights" in text
