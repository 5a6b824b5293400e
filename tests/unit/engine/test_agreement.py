"""What the ranks agree on: the figures of a step, and why it is the last."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torch.distributed as dist

from sce_video.config.tasks import PretrainConfig
from sce_video.engine import agreement as agreed
from sce_video.engine.agreement import NOT_TAKEN, Agreement, Reason, StepLoss, allowed_bad, decide
from sce_video.engine.runtime import Runtime
from sce_video.errors import Interrupted, SceVideoError

INFINITE, GRADIENT, UNWRITTEN, STOPPED, TIME, STARVED, BAD = Reason


@pytest.mark.parametrize(
    ("told", "bad", "expected"),
    [
        ([], 0, None),
        ([], 10, None),
        ([], 11, BAD),
        ([STARVED], 0, STARVED),
        ([STARVED], 11, STARVED),
        ([STOPPED], 0, STOPPED),
        ([STOPPED, TIME, STARVED], 11, STOPPED),
        ([TIME, STARVED], 11, TIME),
        ([UNWRITTEN, STOPPED, STARVED], 11, UNWRITTEN),
        ([INFINITE, GRADIENT, UNWRITTEN, STOPPED, STARVED], 11, INFINITE),
        ([GRADIENT, UNWRITTEN, STOPPED, STARVED], 11, GRADIENT),
        ([INFINITE, STOPPED], 0, INFINITE),
    ],
    ids=lambda value: (
        "+".join(r.name for r in value) or "none" if isinstance(value, list) else None
    ),
)
@pytest.mark.parametrize("ranks", [1, 3])
def test_the_first_reason_counts(
    told: list[Reason], bad: int, expected: Reason | None, ranks: int
) -> None:
    """However many ranks give it."""
    counts = {reason: ranks * (reason in told) for reason in Reason if reason is not BAD}
    assert decide(counts, bad, allowed=10) is expected


@pytest.mark.parametrize(
    ("seen", "fraction", "allowed"), [(12, 0.001, 10), (10_000, 0.001, 10), (10_001, 0.001, 11)]
)
def test_a_fraction_but_at_least_ten_may_be_bad(seen: int, fraction: float, allowed: int) -> None:
    assert allowed_bad(seen, fraction) == allowed


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def agreement(folder: Path, ranks: int = 1) -> Agreement:
    tree = {"data": {"shards": "none", "max_bad_fraction": 0.5}, "train": {"batch_size": 8}}
    config = PretrainConfig.model_validate(tree)
    return Agreement(config, Runtime(0, ranks, torch.device("cpu")), 4, folder / "run.log")


def outcome(
    loss: float, bad: tuple[str, ...] = (), counted: tuple[float, float] = (0, 0), **parts: float
) -> StepLoss:
    tensors = {name: torch.tensor(value) for name, value in parts.items()}
    some = {"probe": (torch.tensor(counted[0]), torch.tensor(counted[1]))}
    return StepLoss(torch.tensor(loss), tensors, [(b, "torn") for b in bad], ["a/1", "a/2"], some)


SQUARE = torch.tensor(16.0, dtype=torch.float64)  # of the gradient's norm


def other_rank(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """A second rank that adds ``values`` to what this one sends.

    They are the figures; sum and number of what some samples have; the squared norm; ranks of an
    infinite loss, of UNWRITTEN, STOPPED, TIME and STARVED; of a checkpoint that is asked for; bad
    samples.
    """
    monkeypatch.setattr(dist, "all_reduce", lambda sent: sent.add_(torch.tensor(values)))


def test_figures_are_means_over_micro_batches_and_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_rank(monkeypatch, 5.0, 0.5, 6.0, 2, 9.0, 0, 0, 0, 0, 0, 1, 2)
    outcomes = [
        outcome(1.0, (), (1.0, 1), top1=0.25),
        outcome(2.0, ("a/1",), (2.0, 3), top1=0.75),
    ]
    row, end, save = agreement(tmp_path, ranks=2).reach(1, outcomes, SQUARE, NOTHING)
    assert row == {
        "loss": (1.5 + 5.0) / 2,
        "top1": 0.5,
        "probe": 9.0 / 6,
        "grad_norm": 5.0,
        "bad_samples": 3.0,
    }
    assert end is None
    assert save


def test_what_no_sample_has_is_not_logged(group: None, tmp_path: Path) -> None:
    row, _, save = agreement(tmp_path).reach(1, [outcome(1.0)], SQUARE, NOTHING)
    assert "probe" not in row
    assert not save


def test_the_host_reads_once(group: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Mock(side_effect=agreed.read)
    monkeypatch.setattr(agreed, "read", read)
    agreement(tmp_path).reach(1, [outcome(1.0, counted=(1, 1)), outcome(2.0)], SQUARE, NOTHING)
    assert read.call_count == 1


NOTHING: dict[Reason, Any] = {UNWRITTEN: None, STOPPED: False, TIME: None, STARVED: None}


def reach(
    made: Agreement, step: int = 1, *bad: str, **own: Any
) -> tuple[Any, BaseException | None]:
    given = NOTHING | {Reason[k]: v for k, v in own.items()}
    return made.reach(step, [outcome(1.0, bad)], SQUARE, given)[:2]


MINE = SceVideoError("mine")


@pytest.mark.parametrize(
    ("theirs", "own", "kind", "message"),
    [
        ((1, 0, 0, 0, 0), {}, SceVideoError, "the loss of step 7 is not finite: see {log}"),
        ((0, 1, 0, 0, 0), {}, SceVideoError, "no checkpoint was written: see {log}"),
        ((0, 0, 0, 0, 0), {"UNWRITTEN": MINE}, SceVideoError, "mine"),
        (
            (0, 0, 1, 0, 0),
            {},
            Interrupted,
            "stopped by a signal after step 7; continue with",
        ),
        ((0, 0, 0, 0, 0), {"STOPPED": True}, Interrupted, "stopped by a signal after step 7; "),
        (
            (0, 0, 0, 1, 0),
            {},
            Interrupted,
            "stopped after step 7, before the time is up (see",
        ),
        ((0, 0, 0, 0, 0), {"TIME": Interrupted("late")}, Interrupted, "late"),
        ((0, 0, 0, 0, 1), {}, SceVideoError, "another rank has no more clips: see {log}"),
        ((0, 0, 0, 0, 1), {"STARVED": MINE}, SceVideoError, "mine"),
    ],
    ids=[
        "their loss",
        "their disk",
        "our disk",
        "their signal",
        "our signal",
        "their clock",
        "our clock",
        "their clips",
        "our clips",
    ],
)
def test_all_ranks_end_for_the_same_reason(
    theirs: tuple[int, ...],
    own: dict[str, Any],
    kind: type,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other_rank(monkeypatch, 0.0, 0, 0, 0.0, *theirs, 0, 0)
    made = agreement(tmp_path, ranks=2)
    taken = not (theirs[0] or theirs[1] or "UNWRITTEN" in own)
    if taken:
        _, error = reach(made, 7, **own)
    else:
        with pytest.raises(SceVideoError) as caught:
            reach(made, 7, **own)
        error = caught.value
    assert type(error) is kind
    assert str(error).startswith(message.format(log=tmp_path / "run.log"))


def test_the_rank_that_has_it_names_the_samples(
    group: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = [outcome(1.0), outcome(float("nan"))]
    with pytest.raises(SceVideoError, match="the loss of step 3 is not finite"):
        agreement(tmp_path).reach(3, outcomes, SQUARE * torch.nan, NOTHING)
    assert caplog.messages == ["not finite: samples a/1, a/2, a/1, a/2"]
    assert set(NOT_TAKEN) == {INFINITE, GRADIENT, UNWRITTEN}


@pytest.mark.parametrize("square", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_ends_under_a_finite_loss(
    square: float, group: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SceVideoError, match="the gradient of step 3 is not finite"):
        agreement(tmp_path).reach(3, [outcome(1.0)], SQUARE * square, NOTHING)
    assert caplog.messages == ["not finite: samples a/1, a/2"]


def test_a_rank_names_none_of_its_samples_for_the_loss_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other_rank(monkeypatch, torch.inf, 0, 0, 0.0, 1, 0, 0, 0, 0, 0, 0)
    with pytest.raises(SceVideoError, match="the loss of step 3 is not finite"):
        reach(agreement(tmp_path, ranks=2), 3)
    assert not caplog.messages


def test_bad_samples_count_once_and_end_with_a_summary(
    group: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of the 32 samples of an epoch are allowed, however long the run is."""
    made = agreement(tmp_path)
    with caplog.at_level(logging.WARNING):
        for step in range(1, 9):
            row, end = reach(made, step, f"a/{2 * step}", f"a/{2 * step - 1}")
            assert row["bad_samples"] == 2 * step
            assert end is None
            assert reach(made, step, "a/1", "a/2")[0]["bad_samples"] == 2 * step
    assert len(caplog.messages) == 16
    assert caplog.messages[0] == "bad sample a/2: torn; replaced by the next"
    _, end = reach(made, 17, "a/17")
    assert str(end) == (
        "17 of 32 samples were bad (data.max_bad_fraction allows 16): 17 x torn; "
        f"all are named in {tmp_path / 'run.log'}; "
        "a set with an index is checked by python -m sce_video.shard verify"
    )
