"""Shipped configs: complete, and equal to the published tables, which are written down here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from sce_video.config.load import configs_folder, load_pretraining
from sce_video.config.objectives import SCEConfig
from sce_video.engine.clip_task import view_recipe
from sce_video.engine.cost import cost, gpu_hours
from sce_video.engine.optim.schedules import scaled_lr
from sce_video.shardset.published import PUBLISHED
from sce_video.stream.data import planned_data

FILES = sorted((configs_folder() / "pretrain").glob("*.yaml"))
LABELLED = ("linear", "finetune")
STEMS = {"info_nce": "mocov2"}  # file names say what the literature does
DATA = {"kinetics400": "k400", "kinetics200": "k200"}


class Row(NamedTuple):
    """A run of the official code: its table, and what follows from it."""

    lr: float  # after scaling
    weight_decay: float
    temp_m: float
    queue: int
    steps_per_epoch: int  # floor(samples / batch)
    epochs: int
    warmup_steps: int
    clip: tuple[int, int, float] | None = None  # frames, side, seconds
    brightness: float = 0.4  # of the jitter
    difference: float = 0.0  # probability of temporal difference


EIGHT, SIXTEEN, SMALL = (8, 224, 2.56), (16, 224, 2.56), (16, 112, 1.28)
K200 = (4.8, 1e-6)
TABLES = {
    "sce_imagenet_resnet50_100ep": Row(9.6, 1e-6, 0.07, 65536, 312, 100, 3120),
    "sce_imagenet_resnet50_200ep": Row(4.8, 1e-6, 0.07, 65536, 312, 200, 3120),
    "sce_imagenet_resnet50_300ep": Row(4.8, 1e-6, 0.07, 65536, 312, 300, 3120),
    "sce_imagenet_resnet50_1000ep": Row(4.8, 1.5e-6, 0.07, 65536, 312, 1000, 3120),
    "sce_imagenet_resnet50_five_crop": Row(4.8, 1e-6, 0.07, 65536, 312, 200, 3120),
    "sce_k200_r3d_18_baseline": Row(*K200, 0.07, 32768, 156, 200, 5460, EIGHT),
    "sce_k200_r3d_18": Row(*K200, 0.05, 32768, 156, 200, 5460, EIGHT, 0.8, 0.2),
    "sce_k200_r3d_18_small": Row(*K200, 0.07, 32768, 156, 200, 5460, SMALL),
    "sce_k400_r3d_18": Row(4.8, 1e-6, 0.05, 65536, 469, 200, 16415, EIGHT, 0.8, 0.2),
    "sce_k400_r3d_18_small": Row(4.8, 1e-6, 0.05, 65536, 469, 200, 16415, SMALL, 0.8, 0.2),
    "sce_k400_r3d_50_8frames": Row(4.8, 1e-6, 0.05, 65536, 469, 200, 16415, EIGHT, 0.8, 0.2),
    "sce_k400_r3d_50_16frames": Row(4.8, 1e-6, 0.05, 65536, 469, 200, 16415, SIXTEEN, 0.8, 0.2),
    "sce_cifar10_resnet18_small": Row(0.06, 5e-4, 0.05, 4096, 195, 200, 975),
    # The trunk is ours, the rest is the table's K400 R3D18 small.
    "sce_k400_r2plus1d_18": Row(4.8, 1e-6, 0.05, 65536, 469, 200, 16415, SMALL, 0.8, 0.2),
}


def header(path: Path) -> dict[str, str]:
    """The head of a file: its keys, continued lines joined; ``""`` is the title."""
    lines = path.read_text().split("\ntask:")[0].splitlines()
    text = re.sub(r"\n  +", " ", "\n".join(line.removeprefix("# ") for line in lines))
    title, *rest = text.splitlines()
    return {"": title, **dict(line.split(": ", 1) for line in rest)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_config_is_complete_and_its_cost_is_the_plan_s(path: Path) -> None:
    config, text = load_pretraining(str(path)), path.read_text()
    assert len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= 100
    head = header(path)
    assert set(head) == {"", "Source", "Hardware", "Expected", "Cost", "Ours"}
    name = str(config.data.shards).removeprefix("shards/")
    objective = STEMS.get(config.objective.name, config.objective.name)
    assert path.stem.startswith(f"{objective}_{DATA.get(name, name)}_{config.model.trunk}")
    assert config.run.dir == f"runs/{path.stem}"
    _written_out(yaml.safe_load(text), config.model_dump())
    found = re.match(r"(\d+) GPU", head["Hardware"])
    assert found
    gpus = int(found[1])
    plan, _ = planned_data(config, None, gpus)
    assert plan.samples == PUBLISHED[name].samples["train"]
    if per_gpu := re.search(r"\((\d+) (videos|images) each", head["Hardware"]):
        assert int(per_gpu[1]) == plan.micro_batch
    need = cost(config, plan, bf16=True, cuda=True)
    gib = re.search(r"of (\d+) GB", head["Hardware"])
    assert sum(need.memory.values()) < float(gib[1] if gib else 80) * 1e9
    hours = gpu_hours(config, need, plan.steps_per_epoch * plan.epochs, bf16=True)
    assert head["Cost"] == f"about {hours}; not run here."


def test_the_table_of_configs_has_the_hours_of_their_heads() -> None:
    folder, found = configs_folder(), dict[str, str]()
    for line in (folder / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        names = re.findall(r"`(\w+(?:/\w+)?)`", cells[0]) if len(cells) == 4 else []
        each = re.findall(r"[\d.]+", cells[-1]) if names else []
        if each:
            repeated = each * len(names) if cells[-1].endswith(" each") else each
            found |= dict(zip(names, repeated, strict=True))
    paths = {path.stem: path for path in FILES}
    paths |= {f"{task}/{p.stem}": p for task in LABELLED for p in (folder / task).glob("*_*.yaml")}
    told = {name: header(path)["Cost"].split()[1] for name, path in paths.items()}
    assert found == told


def _written_out(given: dict[str, Any], whole: dict[str, Any]) -> None:
    """Every key that decides what is learned stands in the file itself."""
    free = {
        "model": {"split_bn", "bn_group", "momentum", "momentum_schedule"},
        "optim": {"decay_epochs", "warmup_start_lr", "final_lr", "clip_norm"},
    }
    assert {"recipe", "antialias"} <= set(given["augment"])
    assert {"epochs", "batch_size", "precision"} <= set(given["train"])
    for section in ("model", "optim"):
        assert set(whole[section]) - set(given[section]) <= free[section]
    for head in ("projector", "predictor"):
        if whole["model"][head]:
            left_out = set(whole["model"][head]) - set(given["model"][head])
            assert left_out <= ({"hidden"} if whole["model"][head]["layers"] == 1 else set())
    ring = (
        {"outer", "inner", "dynamic_inner"}
        if whole["objective"].get("negatives") == "all"
        else set()
    )
    assert set(whole["objective"]) - set(given["objective"]) <= ring | {"anneal_epochs"}
    if whole["clip"]:
        assert {"frames", "seconds", "size", "grid"} <= set(given["clip"])


@pytest.mark.parametrize(("name", "row"), TABLES.items(), ids=TABLES)
def test_published_runs_are_their_tables(name: str, row: Row) -> None:
    config = load_pretraining(f"pretrain/{name}.yaml")
    optim, objective = config.optim, config.objective
    lr = scaled_lr(optim.lr, optim.lr_scaling, config.train.batch_size)
    assert lr == pytest.approx(row.lr)
    assert optim.weight_decay == row.weight_decay
    assert isinstance(objective, SCEConfig)
    assert (objective.coeff, objective.temp, objective.temp_m) == (0.5, 0.1, row.temp_m)
    assert (objective.queue, config.model.momentum) == (row.queue, 0.99)
    plan, _ = planned_data(config, None, 1)
    assert (plan.steps_per_epoch, plan.epochs) == (row.steps_per_epoch, row.epochs)
    assert round(optim.warmup_epochs * plan.steps_per_epoch) == row.warmup_steps
    clip, recipe = config.clip, view_recipe(config)
    assert (clip and (clip.frames, clip.size, clip.seconds)) == row.clip
    assert recipe.views[1].strengths[0] == row.brightness
    assert recipe.temporal_difference == row.difference
    cifar = "cifar" in name
    assert config.model.momentum_schedule == ("constant" if cifar else "cosine")
    assert (optim.name, objective.symmetric) == (("sgd", False) if cifar else ("lars", True))
    assert config.views == (6 if "five_crop" in name else 2)
    assert config.augment.antialias == (not config.clip or "r2plus1d" in name)
    assert config.deepspeed.zero_optimization.stage == 1


def test_every_sce_run_is_in_the_table_or_a_composition() -> None:
    ours = {"sce_k400_r2plus1d_18_ring", "sce_k400_r2plus1d_18_neighbours"}
    assert {p.stem for p in FILES if p.stem.startswith("sce_")} == set(TABLES) | ours


def test_runs_on_k400_differ_in_the_method_alone() -> None:
    reference = load_pretraining("pretrain/sce_k400_r2plus1d_18.yaml")
    for path in FILES:
        if "k400_r2plus1d_18" in path.stem:
            config = load_pretraining(str(path))
            for section in ("data", "clip", "optim", "train", "deepspeed"):
                assert getattr(config, section) == getattr(reference, section), path.stem
