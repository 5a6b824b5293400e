"""What a run finds and leaves in its folder beside metrics and checkpoints."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sce_video.config.tasks import PretrainConfig
from sce_video.engine.run_folder import RunFolder
from sce_video.engine.runtime import Runtime
from sce_video.errors import UsageError

log = logging.getLogger("sce_video")


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The package's, as it was before afterwards."""
    before = log.level, log.propagate, list(log.handlers)
    yield log
    log.level, log.propagate, log.handlers = before


def config(folder: Path, **sections: object) -> PretrainConfig:
    tree = {"data": {"shards": "none"}, "run": {"dir": str(folder)}}
    return PretrainConfig.model_validate(tree | sections)


@pytest.mark.parametrize(
    ("there", "resume", "message"),
    [
        ("nothing", False, None),
        ("nothing", True, "nothing to resume (no checkpoints); delete it and drop run.resume=true"),
        ("a file", False, "not empty; delete it (no checkpoints), or start another with run.dir="),
        ("a file", True, "nothing to resume (no checkpoints)"),
        (
            "checkpoints",
            False,
            "not empty; continue that run with run.resume=true, or start another",
        ),
        ("checkpoints", True, None),
    ],
    ids=lambda value: value if value in ("nothing", "a file", "checkpoints") else None,
)
def test_another_run_is_not_written_into(
    there: str, resume: bool, message: str | None, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    if there != "nothing":
        (folder.checkpoints if there == "checkpoints" else folder.path).mkdir(parents=True)
        (folder.path / "notes.txt").touch()
    if message is None:
        folder.check(resume)
        return
    with pytest.raises(UsageError) as caught:
        folder.check(resume)
    assert str(caught.value).startswith(f"{folder.path}: {message}")


@pytest.mark.parametrize("rank", [0, 1])
def test_all_ranks_log_to_the_file_and_the_main_one_to_stderr(
    rank: int, logger: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.handlers = []
    RunFolder(tmp_path / "run").log_to(Runtime(rank, 2, torch.device("cpu")))
    logger.warning("told")
    logger.info("kept", extra={"file_only": True})
    lines = [line.split(" ", 2)[2] for line in (tmp_path / "run/run.log").read_text().splitlines()]
    assert lines[-2:] == [f"WARNING rank {rank}: told", f"INFO rank {rank}: kept"]
    environments = [line for line in lines if "environment: sce-video" in line]
    assert len(environments) == (1 if rank == 0 else 0)
    assert capsys.readouterr().err == ("WARNING rank 0: told\n" if rank == 0 else "")


def test_a_resume_says_what_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(config(tmp_path, optim={"lr": 0.5}), {"train_batch_size": 6}, 0)
    assert json.loads((tmp_path / "deepspeed.json").read_text()) == {"train_batch_size": 6}
    assert not caplog.messages
    again = {"dir": str(tmp_path), "resume": True}
    folder.begin(config(tmp_path, optim={"lr": 0.25}, run=again), {}, 7)
    assert caplog.messages == ["from step 8 on optim.lr: 0.5 -> 0.25"]
    assert "lr: 0.25" in (tmp_path / "config.yaml").read_text()


def test_the_status_names_the_newest_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.status("running", 0)
    status = {"state": "running", "step": 0, "checkpoint": None}
    assert json.loads((tmp_path / "status.json").read_text()) == status
    for step in (8, 12):
        (folder.checkpoints / f"step-{step:08d}").mkdir(parents=True)
    folder.status("done", 13)
    status = {"state": "done", "step": 13, "checkpoint": "step-00000012"}
    assert json.loads((tmp_path / "status.json").read_text()) == status
    assert not list(tmp_path.glob("*.tmp"))
