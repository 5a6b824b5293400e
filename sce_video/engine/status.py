"""How a run is doing: ``status.json``, written by the main rank, read by whoever asks."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from sce_video.documents import DocumentError, read_json
from sce_video.files import write_whole
from sce_video.lock import LOCK_NAME, holder

STATUS_NAME = "status.json"

_STEP = re.compile(r"step-[0-9]{8,}")
_LARGEST = 1 << 20  # bytes of a status

State = Literal["running", "done", "interrupted", "failed"]


class StatusFile:
    """What ``status.json`` says; its writers are the loop, the saver's thread and the lock's."""

    def __init__(self, run: Path) -> None:
        """``run``: the run's folder."""
        self._path = run / STATUS_NAME
        self._mutex = threading.Lock()
        self._told: dict[str, Any] = {}

    @property
    def told(self) -> bool:
        """Whether this process has written a state."""
        return bool(self._told)

    def write(self, state: State, step: int, reason: str | None = None) -> None:
        """Say that the run is in ``state`` after ``step`` steps, and why, where it has failed."""
        with self._mutex:
            self._told = {"state": state, "step": step, **({"reason": reason} if reason else {})}
        self.beat()

    def refuse(self, reason: str) -> None:
        """Say why a run that was to go on did not; one that is done stays so."""
        before = read_status(self._path.parent)
        if before.get("state") != "done":
            self.write("failed", before.get("step", 0), reason)

    def beat(self) -> None:
        """Say it again: with the checkpoint that is newest by now, and that we live."""
        with self._mutex:
            if not self._told:
                return
            saved = saved_steps(self._path.parent / "checkpoints")
            # Later ones were passed over: they do not verify.
            here = [path.name for step, path in saved.items() if step <= self._told["step"]]
            status = {
                **self._told,
                "checkpoint": here[-1] if here else None,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "heartbeat": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            write_whole(self._path, json.dumps(status).encode())


def saved_steps(checkpoints: Path) -> dict[int, Path]:
    """The checkpoints in a run's folder of them by step, ascending; copies of other names are not.

    Whether they verify is not asked.
    """
    found = {int(p.name[5:]): p for p in checkpoints.glob("step-*") if _STEP.fullmatch(p.name)}
    return dict(sorted(found.items()))


def way_on(checkpoints: Path) -> str:
    """What to do after a failure whose cause has gone, by what there is to go on from."""
    if saved_steps(checkpoints):
        return "go on with run.resume=auto"
    return "start it again with run.resume=auto: there is no checkpoint yet"


def read_status(run: Path) -> dict[str, Any]:
    """What ``status.json`` says; empty where it is not there, or not what a run writes."""
    try:
        status = read_json(run / STATUS_NAME, dict, limit=_LARGEST)
    except (OSError, DocumentError):
        return {}
    step = status.get("step")
    whole = status.get("state") in get_args(State) and type(step) is int and step >= 0
    return status if whole else {}


def is_alive(run: Path) -> bool:
    """Whether a process writes in the run's folder: what said "running" may have been killed."""
    try:
        return holder(run / LOCK_NAME) is not None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ELOOP):  # no file: nobody of ours put it there
            return False
        raise
