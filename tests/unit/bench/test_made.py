"""Tasks without a shard set: their clips, and how many samples and classes they pretend to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sce_video.bench.made import made_plan, still
from sce_video.config.load import load_config
from sce_video.errors import UsageError
from tests.unit.bench.tiny import TASKS, config_file, tiny_task


def test_clips_are_as_a_worker_hands_them_over(tmp_path: Path) -> None:
    config = load_config("demo.yaml", ["clip.frames=4", "clip.size=24", "train.batch_size=4"])
    task = tiny_task(config, 2)
    asked: list[int] = []
    task.asked = asked.append
    batches = task.batches(0)
    first, second = next(batches), next(batches)
    assert [view.shape for view in first.views] == [(4, 4, 3, 24, 24)] * 2
    assert {view.dtype for view in first.views} == {torch.uint8}
    assert first.views[0].stride()[2] == 1  # channels last
    assert first.views[0].data_ptr() == second.views[0].data_ptr()
    assert first.epochs.tolist() != second.epochs.tolist()  # drawn anew
    assert first.rows.tolist() == second.rows.tolist() == [0, 1, 2, 3]
    assert asked == [0, 1]


def test_the_plan_is_as_long_as_the_set_if_that_is_known(tmp_path: Path) -> None:
    known = load_config("pretrain/sce_imagenet_resnet50_200ep.yaml")
    plan = made_plan(known, 10)
    assert (plan.samples, plan.classes, plan.ranks) == (1_281_167, 1000, 1)
    unknown = load_config(config_file(tmp_path, TASKS["finetune"][0]))
    plan = made_plan(unknown, 10)
    assert (plan.samples, plan.classes) == (40, 400)
    assert tiny_task(unknown, 10).module.get_parameter("linear.bias").shape == (400,)


def test_a_batch_that_does_not_divide_is_an_error(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path, {"train": {"accumulate": 3}}))
    with pytest.raises(UsageError, match="does not divide"):
        made_plan(config, 10)


def test_a_run_that_stays_where_it_starts() -> None:
    config = still(load_config("linear/k400_r3d_18.yaml", ["optim.warmup_start_lr=0.1"]))
    assert config.run.init_from is None
    optim = config.optim
    assert (optim.lr, optim.warmup_start_lr, optim.final_lr) == (0, 0, 0)
