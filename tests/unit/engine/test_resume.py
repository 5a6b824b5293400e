"""What may change when a run goes on, what must not, and when there is nothing left to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sce_video.config.load import dump_config, flat
from sce_video.config.tasks import TASKS, Config
from sce_video.engine import checkpoint
from sce_video.engine.resume import RULES, compare, find_resume, last_step, nothing_to_do, rule
from sce_video.engine.run_folder import RunFolder
from sce_video.errors import SceVideoError, UsageError
from sce_video.stream.order import BatchPlan, TrainingPlan

LABELLED = {"augment": {"recipe": "video_finetune"}}


def config(tmp_path: Path, task: str = "pretrain", **sections: Any) -> Config:
    tree: dict[str, Any] = {
        "task": task,
        "run": {"dir": str(tmp_path), "resume": "auto"},
        "data": {"shards": "shards/a"},
        "train": {"batch_size": 8, "epochs": 10},
        "optim": {"warmup_epochs": 0, "lr": 0.32},
    }
    if task == "pretrain":
        tree["objective"] = {"queue": 64}
    else:
        tree |= LABELLED
    for name, section in sections.items():
        tree[name] = {**tree[name], **section} if name in tree else section
    return TASKS[task].model_validate(tree)


def plan(made: Config, digest: str = "1" * 64, ranks: int = 1) -> TrainingPlan:
    return BatchPlan(
        digest=digest,
        seed=0,
        epochs=made.train.epochs,
        batch_size=made.train.batch_size,
        ranks=ranks,
        rows=np.arange(32),
        shard_of=np.zeros(32, np.int64),
    )


def state(made: Config, step: int = 20, ranks: int = 1) -> dict[str, Any]:
    """Of a checkpoint of a run with this config, of four steps an epoch."""
    return {
        "step": step,
        "run_id": "abc",
        "data": "1" * 64,
        "ranks": ranks,
        "config": made.model_dump(mode="json"),
    }


def found(tmp_path: Path, before: Config, now: Config, **of_now: Any) -> list[str]:
    folder = RunFolder(tmp_path)
    return compare(folder, "step-00000020", state(before), now, plan(now, **of_now))


MUST_NOT: dict[str, tuple[dict[str, Any], str]] = {  # what is other now -> what is said of it
    "model.width": ({"model": {"width": 32}}, "model.width 64 (now 32)"),
    "trunk": ({"model": {"trunk": "r3d_18"}}, "model.trunk r2plus1d_18 (now r3d_18)"),
    "head": ({"model": {"projector": {"dim": 64}}}, "model.projector.dim 256 (now 64)"),
    "no predictor": ({"model": {"predictor": None}}, "model.predictor.layers 2 (now null)"),
    "queue": ({"objective": {"queue": 128}}, "objective.queue 64 (now 128)"),
    "objective": (
        {"objective": {"name": "info_nce", "queue": 64}},
        "objective.name sce (now info_nce)",
    ),
    "temperature": ({"objective": {"queue": 64, "temp": 0.2}}, "objective.temp 0.1 (now 0.2)"),
    "optimizer": ({"optim": {"name": "adamw"}}, "optim.name lars (now adamw)"),
    "seed": ({"run": {"seed": 3}}, "run.seed 0 (now 3)"),
    "probe": ({"eval": {"linear": False}}, "eval.linear true (now false)"),
    "batch": ({"train": {"batch_size": 16}}, "train.batch_size 8 (now 16)"),
    "clip": ({"clip": {"frames": 16}}, "clip.frames 8 (now 16)"),
    "recipe": ({"augment": {"flip": 0.0}}, "augment.flip null (now 0.0)"),
    "split": ({"data": {"split": "train"}}, "data.split null (now train)"),
    "short": ({"data": {"on_short": "drop"}}, "data.on_short repeat (now drop)"),
}


@pytest.mark.parametrize("what", MUST_NOT)
def test_what_a_checkpoint_was_made_with_stays(what: str, tmp_path: Path) -> None:
    other, said = MUST_NOT[what]
    clip: dict[str, Any] = {"clip": {"frames": 8}}
    before, now = config(tmp_path, **clip), config(tmp_path, **{**clip, **other})
    with pytest.raises(UsageError) as caught:
        found(tmp_path, before, now)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path}: step-00000020 was made with ")
    assert said in line
    assert line.endswith("; give what it was made with, or start another run with run.dir=...")
    assert "\n" not in line
    assert len(line) < 500


def test_another_set_is_named_with_both_digests(tmp_path: Path) -> None:
    before, now = config(tmp_path), config(tmp_path, data={"shards": "shards/b"})
    with pytest.raises(UsageError) as caught:
        found(tmp_path, before, now, digest="2" * 64)
    said = "data.shards shards/a, manifest 111111111111 (now shards/b, manifest 222222222222)"
    assert said in str(caught.value)


MAY: dict[str, tuple[dict[str, Any], str]] = {  # what is other now -> the line
    "moved set": (
        {"data": {"shards": "shards/b"}},
        "data.shards shards/a -> shards/b: the same samples, read from there",
    ),
    "workers": ({"data": {"workers": 5}}, "data.workers 2 -> 5: nothing that is trained changes"),
    "stage": (
        {"deepspeed": {"zero_optimization": {"stage": 3}}},
        "deepspeed.zero_optimization.stage 1 -> 3: equal but for rounding",
    ),
    "rate": ({"optim": {"lr": 0.64}}, "optim.lr 0.32 -> 0.64: the rate of step 21 goes from 0.005"),
    "epochs": (
        {"train": {"epochs": 5000}},
        "train.epochs 10 -> 5000: the rate of step 21 goes from 0.005 to 0.01, momentum from "
        "0.9952 to 0.99",
    ),
    "encoder": (
        {"run": {"init_from": "runs/a"}},
        "run.init_from null -> runs/a: it is not read again: the run goes on from its checkpoint",
    ),
    "saves": (
        {"train": {"save_every": "30 min"}},
        "train.save_every 1 -> 30 min: nothing that is trained changes",
    ),
    "group": ({"model": {"bn_group": 1}}, "model.bn_group null -> 1: BN takes its statistics"),
}


@pytest.mark.parametrize("what", MAY)
def test_what_changes_is_listed_with_what_follows(what: str, tmp_path: Path) -> None:
    other, said = MAY[what]
    [line] = found(tmp_path, config(tmp_path), config(tmp_path, **other))
    assert line.startswith(said)


def test_ranks_may_change_and_what_is_the_same_is_not_said(tmp_path: Path) -> None:
    made = config(tmp_path)
    assert found(tmp_path, made, made) == []
    assert found(tmp_path, made, made, ranks=2) == ["ranks 1 -> 2: equal but for rounding"]


@pytest.mark.parametrize("task", TASKS)
def test_every_key_has_a_rule(task: str, tmp_path: Path) -> None:
    made = config(tmp_path, task, **({"clip": {}} if task != "pretrain" else {}))
    for key in flat(made.model_dump(mode="json")):
        rule(key)
    known = {k for t in TASKS.values() for k in keys_of(t)}
    assert not set(RULES) - known


def keys_of(model: Any, name: str = "") -> set[str]:
    """Names of keys and sections, with those of the objectives' left out."""
    from sce_video.config.base import section_of

    found = set()
    for key, field in model.model_fields.items():
        full = f"{name}.{key}" if name else key
        section = section_of(field.annotation)
        found |= {full} | (keys_of(section, full) if section else set())
    return found


def test_a_checkpoint_of_before_is_compared_with_the_run_s_config(tmp_path: Path) -> None:
    before, now = config(tmp_path), config(tmp_path, model={"width": 32})
    (tmp_path / "config.yaml").write_text(dump_config(before))
    older = {"step": 20, "run_id": "abc", "data": "1" * 64, "batch_size": 8}
    with pytest.raises(UsageError, match=r"model\.width 64 \(now 32\)"):
        compare(RunFolder(tmp_path), "step-00000020", older, now, plan(now))
    assert compare(RunFolder(tmp_path), "step-00000020", older, before, plan(before)) == []


def test_a_key_that_an_older_version_lacked_stood_for_its_default(tmp_path: Path) -> None:
    made = config(tmp_path)
    older = state(made)
    del older["config"]["train"]["compile"], older["config"]["model"]["bn_group"]
    assert compare(RunFolder(tmp_path), "step", older, made, plan(made)) == []
    older["config"]["train"]["gone"] = 3  # of a key that is no more
    assert compare(RunFolder(tmp_path), "step", older, made, plan(made)) == []


@pytest.mark.parametrize("tree", [{"zz": 1, "run": 5}, {"task": "pretrain", "run": []}, {}])
def test_a_config_that_no_version_wrote_is_compared_where_it_can_be(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    made = config(tmp_path)
    found = {**state(made), "config": tree}
    assert compare(RunFolder(tmp_path), "step", found, made, plan(made)) == []
    found["config"] = {**tree, "task": ["pretrain", "b" * 10**6]}
    with pytest.raises(UsageError, match=r"was made with task .*\.\.\. \(now pretrain\)") as error:
        compare(RunFolder(tmp_path), "step", found, made, plan(made))
    assert len(str(error.value)) < 800


def save(folder: RunFolder, made: Config, step: int) -> None:
    names = ("model.safetensors", "optimizer.safetensors")
    files = {name: {"w": torch.zeros(1)} for name in names}
    checkpoint.save(folder.checkpoints, files, state(made, step), 9)


def test_a_run_goes_on_from_the_newest_that_verifies(tmp_path: Path) -> None:
    made, folder = config(tmp_path), RunFolder(tmp_path)
    assert find_resume(folder, made, plan(made)) is None
    for step in (12, 16):
        save(folder, made, step)
    (folder.checkpoints / "step-00000016" / "model.safetensors").write_bytes(b"")
    resume = find_resume(folder, made, plan(made))
    assert resume is not None
    assert (resume.checkpoint, resume.state["step"]) == ("step-00000012", 12)
    assert len(resume.passed_over) == 1
    (folder.checkpoints / "step-00000012" / "manifest.json").unlink()
    with pytest.raises(SceVideoError, match=r"no step-. that verifies"):
        find_resume(folder, made, plan(made))
    assert find_resume(folder, config(tmp_path, run={"resume": False}), plan(made)) is None


@pytest.mark.parametrize(
    ("state_said", "max_steps", "said"),
    [
        ("done", 20, "complete, nothing to do (step 20 of 20)"),
        ("interrupted", 20, None),  # the encoder is not there yet
        ("done", 21, None),
        ("done", None, None),
        ("interrupted", 19, "nothing to do: it has done 20 steps, and would end after 19"),
        ("done", 19, "nothing to do: it has done 20 steps, and would end after 19"),
    ],
)
def test_what_has_been_done_is_not_done_again(
    state_said: Any, max_steps: int | None, said: str | None, tmp_path: Path
) -> None:
    made, folder = config(tmp_path, run={"max_steps": max_steps}), RunFolder(tmp_path)
    folder.status.write(state_said, 20)
    save(folder, made, 20)
    resume = find_resume(folder, made, plan(made))
    assert resume is not None
    told = nothing_to_do(folder, resume, last_step(made, plan(made)))
    other = resume._replace(changes=["ranks 1 -> 2: equal"])
    more = nothing_to_do(folder, other, last_step(made, plan(made)))
    ends = "(step 20 of 20); other than then: ranks 1 -> 2: equal"
    assert str(more).endswith(ends) is (said is not None and said.startswith("complete"))
    assert (told is None) if said is None else told and told.startswith(f"{tmp_path}: {said}")
