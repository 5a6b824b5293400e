"""Going on with a run: from which checkpoint, and whether what it was made with still holds."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pydantic import ValidationError

from sce_video.config.load import flat, read_config
from sce_video.config.tasks import TASKS, Config, PretrainConfig
from sce_video.engine.optim.schedules import cosine_momentum, learning_rate
from sce_video.engine.run_folder import RunFolder
from sce_video.engine.status import read_status
from sce_video.errors import UsageError
from sce_video.stream.order import TrainingPlan

_NAMED = 4  # keys that a message names
_LONGEST = 200  # characters of a value in it
_NOTHING = "nothing that is trained changes"
_RATE = "the rate changes"  # stands for what is computed
_ROUNDING = "equal but for rounding"

RULES: dict[str, str | None] = {
    "task": None,
    "run": "",  # not compared
    "run.seed": None,
    "run.init_from": "it is not read again: the run goes on from its checkpoint",
    "data": _NOTHING,
    "data.shards": "the same samples, read from there",
    "data.split": None,
    "data.epoch_samples": None,
    "data.on_short": None,
    "data.decode": "frames may differ by a grey level",
    "clip": None,
    "augment": None,
    "model": None,
    "model.bn_group": "BN takes its statistics over another group of ranks",
    "model.momentum": "the momentum encoder follows at another pace",
    "model.momentum_schedule": "the momentum encoder follows at another pace",
    "objective": None,
    "head": None,
    "eval": _NOTHING,
    "eval.linear": None,
    "optim": "the optimizer goes on with this, and with the moments that it has",
    "optim.name": None,
    "optim.lr": _RATE,
    "optim.lr_scaling": _RATE,
    "optim.warmup_epochs": _RATE,
    "optim.warmup_start_lr": _RATE,
    "optim.final_lr": _RATE,
    "optim.decay_epochs": _RATE,
    "train": _NOTHING,
    "train.epochs": _RATE,
    "train.batch_size": None,
    "train.accumulate": "BN takes its statistics over micro-batches of another size",
    "train.precision": "arithmetic of another precision",
    "deepspeed": _ROUNDING,
    "track": _NOTHING,
}
"""Key or section -> what follows where it changes; None = it must not. The longest name counts."""


class Resume(NamedTuple):
    """Where a run goes on."""

    checkpoint: str  # its name below ``checkpoints/``
    state: dict[str, Any]  # of the checkpoint
    changes: list[str]  # what is other than before, and what follows, a line each
    passed_over: list[str]  # newer checkpoints that do not verify


def last_step(config: Config, plan: TrainingPlan) -> int:
    """The optimizer step that a run ends with."""
    total = plan.steps_per_epoch * plan.epochs
    return min(total, config.run.max_steps or total)


def nothing_to_do(folder: RunFolder, resume: Resume, last: int) -> str | None:
    """One line where a run that is there has done all that it is to do; else None.

    Args:
        folder: of the run.
        resume: where it would go on.
        last: :func:`last_step`.
    """
    step = resume.state["step"]
    if step > last:
        return (
            f"{folder.path}: nothing to do: it has done {step:,} steps, and would end after "
            f"{last:,} (run.max_steps, train.epochs); sce-video export makes an encoder of it"
        )
    done = read_status(folder.path).get("state") == "done"
    if not done or step < last:
        return None
    other = f"; other than then: {'; '.join(resume.changes)}" if resume.changes else ""
    return f"{folder.path}: complete, nothing to do (step {step:,} of {last:,}){other}"


def find_resume(folder: RunFolder, config: Config, plan: TrainingPlan) -> Resume | None:
    """The newest checkpoint that verifies; None where a run starts.

    Raises:
        UsageError: it was made with what must not change; both values and the way out are said.
        SceVideoError: there are checkpoints, and none verifies.
    """
    if not config.run.resume or not folder.saved:
        return None
    from sce_video.engine.checkpoint import newest  # torch

    passed_over: list[str] = []
    path, state = newest(folder.checkpoints, warn=passed_over.append)
    changes = compare(folder, path.name, state, config, plan)
    return Resume(path.name, state, changes, passed_over)


def compare(
    folder: RunFolder, name: str, state: dict[str, Any], config: Config, plan: TrainingPlan
) -> list[str]:
    """What is other than when the checkpoint ``name`` was made, a line each; empty = nothing.

    Raises:
        UsageError: what must not change is other.
    """
    tree = state.get("config")
    if tree is None and folder.config.is_file():  # made before checkpoints held it
        tree = read_config(folder.config)
    before = _parsed(tree)
    other = _other(before.model_dump(mode="json") if before else tree or {}, config)
    if before is None:  # keys of another version: what it did not know is as it was
        other = {k: pair for k, pair in other.items() if None not in pair}
    wrong = [f"{k} {_said(a)} (now {_said(b)})" for k, (a, b) in other.items() if rule(k) is None]
    if state["data"] != plan.digest:
        then, now = other.get("data.shards", (config.data.shards,) * 2)
        digests = [f"manifest {digest[:12]}" for digest in (state["data"], plan.digest)]
        wrong.append(f"data.shards {then}, {digests[0]} (now {now}, {digests[1]})")
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise UsageError(
            f"{folder.path}: {name} was made with {', '.join(wrong[:_NAMED])}{more}; give what it "
            "was made with, or start another run with run.dir=..."
        )
    rate = _rate(before, config, state["step"], plan.steps_per_epoch)
    momentum = _momentum(before, config, state["step"], plan.steps_per_epoch)
    follows = {k: rate if rule(k) is _RATE else rule(k) for k in other}
    if "train.epochs" in follows:
        follows["train.epochs"] = rate + momentum
    lines = [f"{k} {_said(a)} -> {_said(b)}: {follows[k]}" for k, (a, b) in other.items()]
    lines = [line for line, text in zip(lines, follows.values(), strict=True) if text]
    if state.get("ranks", plan.ranks) != plan.ranks:
        lines.append(f"ranks {state['ranks']} -> {plan.ranks}: {_ROUNDING}")
    return lines


def _other(before: dict[str, Any], config: Config) -> dict[str, tuple[Any, Any]]:
    """Key -> its value before and now, None = it has none, where they differ."""
    old, new = flat(before), flat(config.model_dump(mode="json"))
    found = {k: (old.get(k), new.get(k)) for k in {**old, **new} if old.get(k) != new.get(k)}
    if "objective.name" in found:  # says by itself that the other keys are of another
        found = {k: v for k, v in found.items() if k == "objective.name" or k[:10] != "objective."}
    return found


def _said(value: object) -> str:
    """A value as YAML has it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def rule(key: str) -> str | None:
    """What :data:`RULES` has of a key or the nearest section around it."""
    while key not in RULES:
        key = key.rpartition(".")[0]
    return RULES[key]


def _parsed(tree: dict[str, Any] | None) -> Config | None:
    """The configuration, where this version knows all its keys."""
    try:
        return TASKS[str(tree["task"])].model_validate(tree) if tree else None
    except (ValidationError, LookupError):
        return None


def _momentum(before: Config | None, config: Config, step: int, epoch_steps: int) -> str:
    """How the momentum encoder's momentum after the next step changes, if it has a schedule."""
    values = [
        cosine_momentum(step, each.train.epochs * epoch_steps, each.model.momentum)
        for each in (before, config)
        if isinstance(each, PretrainConfig) and each.model.momentum_schedule == "cosine"
    ]
    return f", momentum from {values[0]:.4g} to {values[1]:.4g}" if len(values) == 2 else ""


def _rate(before: Config | None, config: Config, step: int, epoch_steps: int) -> str:
    """What the learning rate of the next step is, and would have been."""
    now = f"{learning_rate(config, step, epoch_steps):.3g}"
    then = f"goes from {learning_rate(before, step, epoch_steps):.3g} to" if before else "is"
    return f"the rate of step {step + 1:,} {then} {now}"
