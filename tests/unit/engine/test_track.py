"""Rows of metrics as they are read back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sce_video.config.tasks import PretrainConfig
from sce_video.engine.track import (
    METRICS_NAME,
    Tracker,
    _wandb_mode,
    in_order,
    read_metrics,
)
from sce_video.errors import VerificationError


def test_resumed_run_replaces_what_it_does_again() -> None:
    written = [{"step": s, "loss": 1.0} for s in (1, 2, 3, 4)]
    written += [{"step": s, "loss": 2.0} for s in (3, 4)]
    assert [(row["step"], row["loss"]) for row in in_order(written)] == [
        (1, 1),
        (2, 1),
        (3, 2),
        (4, 2),
    ]


def test_rows_of_one_step_become_one() -> None:
    written = [{"step": 1, "loss": 1.0}, {"step": 1, "eval/knn": 0.5}, {"step": 2, "loss": 3.0}]
    assert in_order(written) == [
        {"step": 1, "loss": 1.0, "eval/knn": 0.5},
        {"step": 2, "loss": 3.0},
    ]


@pytest.mark.parametrize(
    ("there", "kept"),
    [
        ("", ""),
        ("half", ""),
        ("x" * 200_000, ""),
        ('{"step": 1}\n', '{"step": 1}\n'),
        ('{"step": 1}\n{"st', '{"step": 1}\n'),
        ('{"step": 1}\n' + "x" * 200_000, '{"step": 1}\n'),
    ],
    ids=["nothing", "half a row", "a long one", "a row", "a row and a half", "and a long one"],
)
def test_rows_follow_the_last_whole_one(there: str, kept: str, tmp_path: Path) -> None:
    (tmp_path / METRICS_NAME).write_text(there)
    config = PretrainConfig.model_validate({"data": {"shards": "a"}, "track": {"wandb": "off"}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        tracker = Tracker(tmp_path, config, "abc")
    tracker.log(2, {"loss": 1.0})
    tracker.close()
    assert (tmp_path / METRICS_NAME).read_text() == kept + '{"step": 2, "loss": 1.0}\n'


@pytest.mark.parametrize(
    "line", ["{", "[]", "5", "{}", '{"step": "1"}', '{"step": 1.5}', "[" * 10**5, "\x1b[2J"]
)
def test_a_line_that_is_no_row_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / METRICS_NAME).write_text(f'{{"step": 1, "loss": NaN}}\n{line}\nhalf')
    with pytest.raises(VerificationError, match=rf"{METRICS_NAME}: line 2: ") as error:
        read_metrics(tmp_path)
    assert str(error.value).isprintable()
    (tmp_path / METRICS_NAME).write_text('{"step": 1, "loss": 2}\nhalf')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2}]


def test_a_user_without_a_home_has_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HOME", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    assert _wandb_mode("disabled") == "offline"
    assert capsys.readouterr().err == "sce-video: W&B has no key here: tracking offline\n"
