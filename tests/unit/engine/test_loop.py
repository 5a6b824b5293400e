"""A run that is stopped in a look at held-out samples says so, and makes up for the last one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from sce_video.engine.agreement import Agreed
from sce_video.engine.loop import Trainer
from sce_video.errors import Interrupted

GIVEN_UP = "stopped while clips were waited for"
TOLD = r"^stopped after step 2, in an evaluation; continue with .* run\.resume=auto$"


class Looks:
    """Looks at held-out samples, each with what comes of it."""

    every = 2

    def __init__(self, *outcomes: dict[str, float] | Exception) -> None:
        self.left = list(outcomes)

    def __call__(self) -> dict[str, float]:
        outcome = self.left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def trainer(looks: Looks, step: int, *ends: BaseException | None) -> Any:
    """Of a run of two steps, after ``step``; each further one ends as ``ends`` has it."""
    made: Any = Trainer.__new__(Trainer)
    made.config = SimpleNamespace(track=SimpleNamespace(every=1))
    made.step, made.last_step, made._evaluation, made._tracker = step, 2, looks, None
    for name in ("_saver", "_agreement", "_means", "_take", "_reasons"):
        setattr(made, name, MagicMock())
    made._cpu, made._cadence = 0.0, MagicMock(is_due=lambda step: False)
    made._train_step = MagicMock(side_effect=[Agreed({}, end, False) for end in ends])
    return made


@pytest.mark.parametrize("signal", ["in the last step", "in the look"])
def test_a_last_look_that_is_given_up_is_told_behind_the_checkpoint(signal: str) -> None:
    end = Interrupted("stopped by a signal") if signal == "in the last step" else None
    looks = Looks(Interrupted(GIVEN_UP))
    run = trainer(looks, 0, None, end)
    with pytest.raises(Interrupted, match=TOLD):
        run._loop(MagicMock(cpu=0.0), MagicMock())
    assert not looks.left
    run._take.assert_called_once()
    run._saver.commit.assert_called_once()


def test_a_run_that_goes_on_behind_its_last_step_looks() -> None:
    looks = Looks({"top1": 0.5}, Interrupted(GIVEN_UP))
    run = trainer(looks, 2)
    run._loop(MagicMock(), MagicMock())
    assert len(looks.left) == 1
    with pytest.raises(Interrupted, match=TOLD):  # again
        run._loop(MagicMock(), MagicMock())
