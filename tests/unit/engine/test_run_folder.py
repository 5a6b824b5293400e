"""What a run finds and leaves in its folder beside metrics and checkpoints."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch

from sce_video.config.tasks import PretrainConfig
from sce_video.engine.run_folder import RunFolder
from sce_video.engine.runtime import Runtime
from sce_video.engine.status import State, read_status
from sce_video.errors import UsageError
from sce_video.lock import LOCK_NAME

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


AUTO = "run.resume=auto"
CASES = {  # what is there -> what run.resume=false, true and auto say; None = go
    "nothing": (None, f"no checkpoint to resume from; {AUTO} starts where there is none", None),
    "an empty folder": (None, "no checkpoint to resume from", None),
    "others' files": ("not empty, and no run's folder; start another with run.dir=...",) * 3,
    "a run": (
        f"holds a run that was stopped before its first checkpoint; {AUTO} starts it again, or ",
        "no checkpoint to resume from",
        None,
    ),
    "checkpoints": (f"holds a run; {AUTO} goes on with it, or start another with", None, None),
}


def prepare(there: str, folder: RunFolder) -> None:
    if there != "nothing":
        folder.path.mkdir()
    if there in ("others' files", "checkpoints"):
        (folder.path / "notes.txt").touch()
    if there in ("a run", "checkpoints"):
        (folder.path / "status.json").touch()
        (folder.checkpoints / ".tmp-step-00000002").mkdir(parents=True)
    if there == "checkpoints":
        (folder.checkpoints / "step-00000001").mkdir()


@pytest.mark.parametrize("resume", [False, True, "auto"])
@pytest.mark.parametrize("there", CASES)
def test_a_run_is_written_into_its_own_folder(
    there: str, resume: Literal["auto"] | bool, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    prepare(there, folder)
    message = CASES[there][(False, True, "auto").index(resume)]
    before = sorted(tmp_path.rglob("*"))
    if message is None:
        folder.check(resume)
        return
    with pytest.raises(UsageError) as caught, folder.held(resume):
        pytest.fail("was held")
    assert str(caught.value).startswith(f"{folder.path}: {message}")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["file", "file/below/it"])
def test_a_file_is_no_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"/file: is a file, and run\.dir=.* a folder; "):
        RunFolder(tmp_path / name).check("auto")


def test_what_is_no_folder_for_us_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="/link: is a link to nothing, and run"):
        RunFolder(tmp_path / "link").check("auto")
    (tmp_path / "run" / LOCK_NAME).mkdir(parents=True)
    with pytest.raises(UsageError, match="/run/lock: is a folder"):
        RunFolder(tmp_path / "run").check("auto")


@pytest.mark.parametrize("name", ["run.log", "metrics.jsonl"])
def test_what_is_added_to_is_a_file_of_the_run_s_own(name: str, tmp_path: Path) -> None:
    folder, path = RunFolder(tmp_path / "run"), tmp_path / "run" / name
    (tmp_path / "mine.txt").write_text("mine")
    folder.path.mkdir()
    (folder.path / "config.yaml").touch()
    makers: list[Callable[[], None]] = [
        lambda: os.mkfifo(path),  # which nobody reads: to open it would never end
        lambda: path.symlink_to(tmp_path / "mine.txt"),
        lambda: path.symlink_to(tmp_path / "nothing"),
    ]
    for make in makers:
        make()
        with pytest.raises(UsageError, match=f"/{name}: is a link or no file; remove it, or start"):
            folder.held("auto").__enter__()
        path.unlink()
    path.touch()
    folder.check("auto")


def test_one_process_holds_a_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.held(resume=False):
        assert folder.lost is None
        with pytest.raises(UsageError, match="is being written by process"):
            RunFolder(folder.path).held(resume="auto").__enter__()
        (folder.path / "run.log").touch()
    with RunFolder(folder.path).held(resume="auto"):
        pass
    assert [path.name for path in folder.path.iterdir()] == ["run.log"]


def test_a_folder_that_nothing_came_into_goes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "mine")
    with pytest.raises(UsageError, match="no data"), folder.held("auto"):
        raise UsageError("no data")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("before", "after"), [("interrupted", "failed"), ("done", "done")])
def test_why_a_run_did_not_go_on_is_written_down(before: State, after: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    (folder.checkpoints / "step-00000007").mkdir(parents=True)
    folder.status.write(before, 8)
    with pytest.raises(UsageError), RunFolder(folder.path).held("auto"):
        raise UsageError("made with width 8")
    status = read_status(folder.path)
    assert (status["state"], status["step"], status["checkpoint"]) == (after, 8, "step-00000007")
    assert status.get("reason") == ("made with width 8" if after == "failed" else None)
    [line] = folder.log.read_text().splitlines()
    assert line.endswith("ERROR: refused: made with width 8")


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


def test_a_log_that_cannot_be_written_ends_the_run(logger: logging.Logger, tmp_path: Path) -> None:
    logger.handlers = []
    folder = RunFolder(tmp_path)
    folder.log.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        folder.log_to(Runtime(0, 1, torch.device("cpu")))
    assert str(caught.value.filename).endswith("run.log")


def test_what_a_run_is_made_of_is_written(tmp_path: Path) -> None:
    RunFolder(tmp_path).begin(config(tmp_path, optim={"lr": 0.25}), {"train_batch_size": 6})
    assert json.loads((tmp_path / "deepspeed.json").read_text()) == {"train_batch_size": 6}
    assert "lr: 0.25" in (tmp_path / "config.yaml").read_text()
