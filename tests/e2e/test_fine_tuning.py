"""Pretraining helps: fine-tuning from the demo's encoder beats the same from scratch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sce_video.evals.features import extract
from sce_video.evals.views import eval_views
from sce_video.model.classifier import load_classifier
from sce_video.shardset.index import open_shards
from tests.runs import TRAIN, run, sce_video


def accuracy(folder: Path, shards: Path) -> float:
    """Share of the test list that mean scores of three clips put right."""
    net, spec, _ = load_classifier(folder)
    index = open_shards(shards)
    found = extract(net, spec, index, index.rows("test"), eval_views(spec, 3, 1, spec.size))
    assert not found.missing
    return float((found.values.argmax(1) == found.labels).double().mean())


@pytest.mark.soak
def test_fine_tuning_beats_training_from_scratch(tmp_path: Path, record_property: Any) -> None:
    done = sce_video("demo", "--out", str(tmp_path / "demo"), limit=1200)
    assert done.returncode == 0, done.stderr
    shards = tmp_path / "demo/shards"
    tree = {
        "task": "finetune",
        "data": {"shards": str(shards), "split": "train", "workers": 1},
        "clip": {"frames": 8, "seconds": 0.8, "size": 32},
        "augment": {"recipe": "video_linear"},
        "model": {"trunk": "r2plus1d_18_small", "width": 8},
        "optim": {"name": "adamw", "lr": 0.002, "lr_scaling": "none", "warmup_epochs": 0},
        "train": {"epochs": 3, "batch_size": 32},
    }
    config = tmp_path / "tune.yaml"
    config.write_text(yaml.safe_dump(tree))
    for seed in range(3):
        scores = {}
        for name, start in (("scratch", "null"), ("pretrained", str(tmp_path / "demo"))):
            folder = tmp_path / f"{name}-{seed}"
            overrides = [f"run.dir={folder}", f"run.seed={seed}", f"run.init_from={start}"]
            done = run(sys.executable, TRAIN, "--config", str(config), *overrides)
            assert done.returncode == 0, done.stderr
            scores[name] = accuracy(folder, shards)
        record_property(f"seed {seed}", scores)
        assert scores["pretrained"] > scores["scratch"] + 0.1
