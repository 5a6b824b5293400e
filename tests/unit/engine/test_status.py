"""What a run's status says, while it lives and after."""

from __future__ import annotations

import os
import socket
from datetime import datetime
from pathlib import Path

import pytest

from sce_video.engine.status import STATUS_NAME, StatusFile, is_alive, read_status, way_on
from sce_video.lock import LOCK_NAME, Lock


def test_it_names_the_newest_checkpoint_and_the_process(tmp_path: Path) -> None:
    status = StatusFile(tmp_path)
    assert not status.told
    status.write("running", 0)
    assert status.told
    found = read_status(tmp_path)
    assert datetime.fromisoformat(found.pop("heartbeat")).tzinfo
    own = {"pid": os.getpid(), "host": socket.gethostname()}
    assert found == {"state": "running", "step": 0, "checkpoint": None, **own}
    for step in (8, 12, 14):  # the last was passed over: it does not verify
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    for name in (".tmp-step-00000016", "step-00000012.backup", "step-old"):
        (tmp_path / "checkpoints" / name).mkdir()
    status.write("failed", 13, "no clips")
    found = read_status(tmp_path)
    assert (found["state"], found["step"], found["reason"]) == ("failed", 13, "no clips")
    assert found["checkpoint"] == "step-00000012"
    assert [path.name for path in tmp_path.glob("*.*")] == [STATUS_NAME]


def test_a_beat_names_what_is_newest_by_then(tmp_path: Path) -> None:
    status, folder = StatusFile(tmp_path), tmp_path / "checkpoints"
    status.beat()
    assert not (tmp_path / STATUS_NAME).exists()
    (folder / "step-00000002").mkdir(parents=True)
    status.write("running", 4)
    (folder / "step-00000002").rename(folder / "step-00000004")
    status.beat()
    found = read_status(tmp_path)
    assert (found["state"], found["step"], found["checkpoint"]) == ("running", 4, "step-00000004")


ODD = [
    *("", "{", "[1]", "\x00", "[" * 100_000, "{}", '{"state": "running"}', '{"step": 3}'),
    *(f'{{"state": "failed", "step": {step}}}' for step in ("null", "-1", "1.5", "true", '"3"')),
    *(f'{{"state": "failed", "step": {step}}}' for step in ("[3]", "9" * 5000, "NaN")),
    *(f'{{"state": {state}, "step": 3}}' for state in ('"gone"', "null", '["done"]', '{"a": 1}')),
]


@pytest.mark.parametrize("content", ODD, ids=range(len(ODD)))
def test_what_cannot_be_read_says_nothing(content: str, tmp_path: Path) -> None:
    assert read_status(tmp_path) == {}
    (tmp_path / STATUS_NAME).write_text(content)
    assert read_status(tmp_path) == {}
    StatusFile(tmp_path).refuse("other data")
    found = read_status(tmp_path)
    assert (found["state"], found["step"], found["reason"]) == ("failed", 0, "other data")


def test_what_is_no_file_says_nothing(tmp_path: Path) -> None:
    for name in (STATUS_NAME, LOCK_NAME):
        os.mkfifo(tmp_path / name)
    assert read_status(tmp_path) == {}
    assert not is_alive(tmp_path)


def test_what_to_do_next_is_by_what_there_is(tmp_path: Path) -> None:
    for name in (
        "step-1",
        "step-\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0661",
        ".tmp-step-00000001",
    ):
        (tmp_path / name).mkdir()
    assert way_on(tmp_path) == "start it again with run.resume=auto: there is no checkpoint yet"
    (tmp_path / "step-00000001").mkdir()
    assert way_on(tmp_path) == "go on with run.resume=auto"


def test_a_run_lives_while_its_folder_is_held(tmp_path: Path) -> None:
    assert not is_alive(tmp_path)
    with Lock(tmp_path / LOCK_NAME):
        assert is_alive(tmp_path)
    assert not is_alive(tmp_path)
