"""Whole runs on a GPU from made videos: compiled as eager, and the demo's first steps."""

from __future__ import annotations

import math
import os
from pathlib import Path
from statistics import mean
from unittest.mock import patch

import pytest
from torch import nn

from sce_video.config.load import load_pretraining
from sce_video.config.tasks import PretrainConfig
from sce_video.demo import demo_config
from sce_video.engine.track import read_metrics
from sce_video.model.trunks.r2plus1d import r2plus1d_18
from sce_video.shard.convert import convert
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.sources import Options, find_source
from sce_video.shard.sources.demo import render_set
from sce_video.train import train
from tests.gpu.ranks import FreshRanks, all_digits
from tests.runs import make_shards, write_config

pytestmark = pytest.mark.gpu

BARE = ("track.wandb=off", "track.every=1")


def train_it(config: PretrainConfig) -> None:
    """A job: training as its command does it, TF32 off."""
    all_digits()
    train(config)


def train_two_blocks(config: PretrainConfig) -> None:
    """The same with two blocks of R(2+1)D, which have all that the others have: less to compile."""
    with patch("sce_video.model.encoder.build_trunk", lambda _, width: two_blocks(width)):
        train_it(config)


def two_blocks(width: int) -> nn.Module:
    trunk = r2plus1d_18(width)
    for name in ("layer1", "layer2"):
        setattr(trunk, name, getattr(trunk, name)[:1])
    trunk.layer3 = trunk.layer4 = nn.Identity()
    trunk.features = 2 * width
    return trunk


def losses(folder: Path) -> list[float]:
    return [row["train/loss"] for row in read_metrics(folder)]


def test_a_compiled_trunk_is_the_eager_one(ranks: FreshRanks, tmp_path: Path) -> None:
    """In fp32, by the losses of four steps of LARS."""
    path = write_config(tmp_path / "tiny.yaml", make_shards(tmp_path))
    found = {}
    for way in ("true", "false"):
        keys = [f"train.compile={way}", "train.precision=fp32", f"run.dir={tmp_path / way}"]
        config = load_pretraining(str(path), [*keys, *BARE, "run.max_steps=4", "model.width=8"])
        ranks.run(1, train_two_blocks, config)
        found[way] = losses(tmp_path / way)
    assert len(found["true"]) == 4
    assert found["true"] == pytest.approx(found["false"], rel=1e-4)


def test_the_demo_starts_to_learn(ranks: FreshRanks, tmp_path: Path) -> None:
    """Its first 20 steps, on fewer of its videos, in the device's own precision."""
    raw = tmp_path / "raw"
    render_set(raw, seed=0, train_per_class=4, test_per_class=1)
    plan = make_plan(find_source("demo").scan("demo", raw, Options()), Settings("demo"))
    convert(plan, tmp_path / "shards", workers=os.cpu_count() or 1)
    keys = ["run.max_steps=20", "train.compile=false", *BARE]
    ranks.run(1, train_it, demo_config(tmp_path, 0, keys))
    found = losses(tmp_path)
    assert len(found) == 20
    assert all(map(math.isfinite, found))
    assert mean(found[-5:]) < mean(found[:5]), found
