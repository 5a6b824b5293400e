"""Tiny tasks of every kind, on made images."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import yaml

from sce_video.bench import made
from sce_video.bench.bare import MOMENTUM
from sce_video.config.tasks import AnyConfig
from sce_video.engine.runtime import Runtime

IMAGES = {
    "data": {"shards": "shards/none"},
    "clip": None,
    "augment": {"recipe": "cifar_weak_strong", "size": 16},
    "model": {"trunk": "resnet18_small", "width": 4},
    "train": {"batch_size": 4, "epochs": 2},
}
HEADED = {
    "projector": {"hidden": 8, "dim": 8},
    "predictor": {"hidden": 8},
}
ALONE = {"projector": {"hidden": 8, "dim": 8}, "predictor": None}
TASKS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "sce": ({"objective": {"queue": 32}, "model": HEADED}, set()),
    "accumulated": (
        {"objective": {"queue": 32}, "model": HEADED, "train": {"accumulate": 2}},
        set(),
    ),
    "simclr": (
        {"objective": {"name": "simclr"}, "model": {**ALONE, "momentum": 0.9}},
        {MOMENTUM},
    ),
    "cmc": ({"objective": {"name": "cmc", "negatives": 3}, "model": ALONE}, {MOMENTUM}),
    "finetune": ({"task": "finetune", "augment": {"recipe": "imagenet_linear"}}, {MOMENTUM}),
    "linear": ({"task": "linear", "augment": {"recipe": "imagenet_linear"}}, {MOMENTUM}),
}


def config_file(folder: Path, changes: dict[str, Any]) -> str:
    """A config of tiny images, with changes."""
    tree: dict[str, Any] = {"task": "pretrain", **copy.deepcopy(IMAGES)}
    for section, values in changes.items():
        if isinstance(values, dict):
            tree[section] = {**(tree.get(section) or {}), **values}
        else:
            tree[section] = values
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def tiny_task(config: AnyConfig, steps: int) -> made.MadeClips:
    """Of one rank on a CPU."""
    plan = made.made_plan(config, steps)
    return made.make_task(config, plan, Runtime(0, 1, torch.device("cpu")))
