"""When a run saves, and when it ends for want of time."""

from __future__ import annotations

from typing import Any

import pytest

from sce_video.config.tasks import PretrainConfig
from sce_video.engine.cadence import Cadence


class Clock:
    """Seconds that a test counts."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def cadence(clock: Clock, max_hours: float | None = None, **train: Any) -> Cadence:
    tree = {"data": {"shards": "none"}, "train": train, "run": {"max_hours": max_hours}}
    return Cadence(PretrainConfig.model_validate(tree), 4, clock)


@pytest.mark.parametrize(
    ("save_every", "keep_every", "steps"),
    [
        (1, None, [4, 8, 12, 16, 20, 24]),
        (3, None, [12, 24]),
        ("3 epochs", None, [12, 24]),
        ("10 steps", None, [10, 20]),
        ("10 steps", 3, [10, 12, 20, 24]),
        ("30 min", None, []),
        ("30 min", 2, [8, 16, 24]),
    ],
)
def test_epochs_and_steps(
    save_every: int | str, keep_every: int | None, steps: list[int], clock: Clock
) -> None:
    made = cadence(clock, save_every=save_every, keep_every=keep_every)
    assert [step for step in range(1, 25) if made.is_due(step)] == steps


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    return Clock()


def test_minutes_count_from_the_save_before(clock: Clock) -> None:
    made = cadence(clock, save_every="1.5 min")
    due = []
    for second in range(0, 300, 10):
        clock.now = 1_000_000 + second
        if made.is_due_by_clock():
            due.append(second)
            made.saved()
    assert due == [90, 180, 270]
    assert not cadence(clock, save_every="5 steps").is_due_by_clock()


def steps_until_the_end(made: Cadence, clock: Clock, seconds: float, save: float) -> int:
    """Steps of so many seconds that are done when it ends; the first takes ten times as long."""
    for step in range(1, 10_000):
        clock.now += seconds * (10 if step == 1 else 1)
        made.step()
        if made.over(save):
            return step
    raise AssertionError("it never ends")


def test_another_step_and_save_fit_twice_before_the_end(clock: Clock) -> None:
    made = cadence(clock, max_hours=1)
    step = steps_until_the_end(made, clock, 10, 50)
    assert step == 1 + (3600 - 100 - 2 * (10 + 50)) / 10
    assert made.over(50) == "run.max_hours=1"


def test_slurm_s_end_leaves_a_minute(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(clock.now) + 3600))
    made = cadence(clock)
    assert steps_until_the_end(made, clock, 10, 50) == 1 + (3600 - 60 - 100 - 2 * (10 + 50)) / 10
    assert made.over(50) == "SLURM's time limit"


@pytest.mark.parametrize("end", [None, "", "unknown"])
def test_without_a_limit_it_does_not_end(
    end: str | None, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    if end is not None:
        monkeypatch.setenv("SLURM_JOB_END_TIME", end)
    made = cadence(clock)
    clock.now += 1e9
    assert made.over(10) is None


@pytest.mark.parametrize(
    "value",
    ["0", 0, "5 minutes", "x steps", "0 min", "-1 min", "1.5", 1.5, "1.5 steps", "min", "", True],
)
def test_what_is_no_interval_is_refused(value: object, clock: Clock) -> None:
    with pytest.raises(ValueError, match="is no interval; give epochs"):
        cadence(clock, save_every=value)
