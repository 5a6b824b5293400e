"""Shipped configs with labels: complete, and equal to the published protocols."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sce_video.config.load import configs_folder, load_config
from sce_video.config.recipes import RandomCrop, RandomResizedCrop
from sce_video.config.tasks import SupervisedConfig
from sce_video.engine.clip_task import view_recipe
from sce_video.engine.optim.schedules import scaled_lr
from sce_video.engine.preview import describe
from sce_video.shardset.published import PUBLISHED
from sce_video.stream.data import planned_data
from tests.unit.test_configs import DATA, header

FILES = sorted(
    path
    for task in ("linear", "finetune")
    for path in (configs_folder() / task).glob("*.yaml")
    if path.stem != "own"
)
# Task, images: lr after scaling, batch, warm-up epochs, epochs, dropout.
PROTOCOLS = {
    ("linear", True): (0.4, 1024, 0, 90, 0),
    ("linear", False): (4.0, 512, 8, 60, 0),
    ("finetune", False): (0.025, 64, 0, 200, 0.8),
}
MOCO = (30, 512, 0, 100, 0)
STEPS = {"kinetics400": 469, "kinetics200": 156, "ucf101": 149, "hmdb51": 55}  # floor(n / batch)


def load(path: Path) -> SupervisedConfig:
    config = load_config(str(path))
    assert isinstance(config, SupervisedConfig)
    return config


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_config_is_complete_and_its_protocol_the_published_one(path: Path) -> None:
    config, text = load(path), path.read_text()
    assert len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= 100
    assert config.task == path.parent.name
    name = str(config.data.shards).removeprefix("shards/")
    assert path.stem.startswith(f"{DATA.get(name, name)}_{config.model.trunk}")
    assert config.run.dir == f"runs/{config.task}_{path.stem}"
    given, optim, train = yaml.safe_load(text), config.optim, config.train
    assert {"recipe", "antialias"} <= set(given["augment"])
    assert given["head"].keys() == {"dropout"}
    assert set(type(optim).model_fields) - set(given["optim"]) <= {
        "decay_epochs",
        "warmup_start_lr",
        "final_lr",
        "clip_norm",
    }
    moco = path.stem.endswith("moco")
    protocol = MOCO if moco else PROTOCOLS[config.task, config.clip is None]
    lr = scaled_lr(optim.lr, optim.lr_scaling, train.batch_size)
    found = (lr, train.batch_size, optim.warmup_epochs, train.epochs, config.head.dropout)
    assert found == pytest.approx(protocol)
    assert (optim.name, optim.momentum, optim.weight_decay) == ("sgd", 0.9, 0)
    assert optim.decay_epochs == ((60, 80) if moco else ())
    assert (train.precision, train.accumulate) == ("fp32", 1)
    [view] = view_recipe(config).views
    crop = RandomCrop() if config.clip else RandomResizedCrop((0.08, 1.0))
    assert (view.crop, view.flip, view.blur, view.solarize) == (crop, 0.5, 0, 0)
    assert (view.jitter, view.gray) == ((0.8, 0.2) if config.task == "finetune" else (0, 0))
    assert view_recipe(config).temporal_difference == 0
    assert config.augment.antialias == (not config.clip or "r2plus1d" in path.stem)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_the_trunk_is_that_of_the_pretraining_it_starts_from(path: Path) -> None:
    config = load(path)
    assert config.run.init_from
    stem = config.run.init_from.removeprefix("runs/")
    source = load_config(f"pretrain/{stem}.yaml")
    assert source.run.dir == config.run.init_from
    assert (source.model.trunk, source.model.width) == (config.model.trunk, config.model.width)
    assert (source.clip, source.shape.size) == (config.clip, config.shape.size)
    assert source.augment.antialias == config.augment.antialias


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_the_plan_needs_no_shards_and_the_cost_is_its(path: Path) -> None:
    config, head = load(path), header(path)
    assert set(head) == {"", "Source", "Hardware", "Expected", "Cost", "Ours"}
    gpus = int(head["Hardware"].split(" GPU")[0])
    plan, note = planned_data(config, None, gpus)
    name = str(config.data.shards).removeprefix("shards/")
    assert plan.samples == PUBLISHED[name].samples[str(config.data.split)]
    assert plan.steps_per_epoch == STEPS.get(name, plan.samples // config.train.batch_size)
    each = re.search(r"\((\d+) (videos|images) each", head["Hardware"])
    gib = re.search(r"of (\d+) GB", head["Hardware"])
    assert each
    assert gib
    assert int(each[1]) == plan.micro_batch
    text = describe(config, plan, cuda=True, note=note)
    memory = re.search(r"a rank: ([\d.]+) GiB", text)
    hours = re.search(r"FLOP in all: (.*)", text)
    assert memory
    assert hours
    assert float(memory[1]) * 2**30 < float(gib[1]) * 1e9
    assert head["Cost"] == f"{hours[1]}; not run here."
    assert f"head       linear layer of {PUBLISHED[name].classes} classes, dropout " in text
    assert f"start      {config.run.init_from}" in text


def test_the_splits_of_ucf101_and_hmdb51_are_one_key() -> None:
    for name, samples in (("ucf101", (9537, 9586, 9624)), ("hmdb51", (3570,) * 3)):
        for n, expected in enumerate(samples, 1):
            split = f"data.split=split{n}:train"
            config = load_config(f"finetune/{name}_r3d_50.yaml", [split])
            assert planned_data(config, None, 1)[0].samples == expected
