"""Metrics: ``metrics.jsonl`` is the truth; Weights & Biases gets a copy."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from sce_video.config.tasks import Config
from sce_video.documents import DocumentError, parse_json
from sce_video.errors import VerificationError, complain
from sce_video.files import named, read_plain

METRICS_NAME = "metrics.jsonl"
_BLOCK = 1 << 16  # bytes that are looked through at a time


class Tracker:
    """Writes rows ``{"step": ..., "train/loss": ...}``; lives on the main rank only.

    WANDB_MODE wins over the config; ``online`` without a key falls back to ``offline``. A tracker
    that fails is switched off with one line and never stops training.
    """

    def __init__(self, folder: Path, config: Config, run_id: str) -> None:
        self._path = folder / METRICS_NAME
        _cut_half_row(self._path)
        self._file = self._path.open("ab", buffering=0)
        self._run: Any = None
        self._failed = False
        mode = _wandb_mode(config.track.wandb)
        if mode == "disabled":
            return
        with self._guarded():
            import wandb

            self._run = wandb.init(
                project=config.track.project,
                id=run_id,
                name=folder.name,
                dir=folder,
                config=config.model_dump(mode="json"),
                mode=mode,
                resume="allow" if mode == "online" else None,
                settings=wandb.Settings(silent=True, console="off"),
            )
            self._run.define_metric("step")
            self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: dict[str, float]) -> None:
        """One row; ``step`` counts finished optimizer steps.

        Raises:
            OSError: it cannot be written; the file is named.
        """
        row = {"step": step, **values}
        left = f"{json.dumps(row)}\n".encode()
        try:
            with named(self._path):
                while left:  # a disk that fills up takes a part first
                    left = left[self._file.write(left) :]
        except OSError:
            _cut_half_row(self._path)
            raise
        with self._guarded():
            if self._run is not None:
                self._run.log(row)

    def image(self, step: int, name: str, path: Path) -> None:
        """Show a picture in W&B."""
        with self._guarded():
            if self._run is not None:
                import wandb

                self._run.log({"step": step, name: wandb.Image(str(path))})

    def close(self) -> None:
        """Finish both."""
        self._file.close()
        with self._guarded():
            if self._run is not None:
                self._run.finish()
        if self._failed:
            import wandb

            # Its service may be gone (launchers end it with the ranks): without this, W&B's own
            # exit hook prints a traceback.
            with contextlib.suppress(Exception):
                wandb.teardown()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Context in which an error of W&B's switches it off: training goes on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  whatever a tracker raises
            self._run, self._failed = None, True
            reason = " ".join(str(error).split())
            complain(f"W&B switched off ({reason}); {METRICS_NAME} goes on")


def _wandb_mode(configured: str) -> Literal["online", "offline", "disabled"]:
    mode = os.environ.get("WANDB_MODE") or configured
    if mode != "online":
        return "offline" if mode == "offline" else "disabled"
    keys = os.path.expanduser("~/.netrc")  # noqa: PTH111  (of a user without a home no error)
    if os.environ.get("WANDB_API_KEY") or Path(keys).is_file():
        return "online"
    complain("W&B has no key here: tracking offline")
    return "offline"


def _cut_half_row(path: Path) -> None:
    """Drop what a run that was killed, or met a full disk, left of its last row."""
    if not path.is_file():
        return
    with path.open("rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            stream.seek(start)
            newline = stream.read(end - start).rfind(b"\n")
            if newline >= 0:
                stream.truncate(start + newline + 1)
                return
            end = start
        stream.truncate(0)


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Rows of a run in order, as :func:`in_order` has them; a half one at the end is left out.

    Raises:
        VerificationError: a line is no row.
    """
    path = folder / METRICS_NAME
    whole = read_plain(path).rpartition(b"\n")[0] if path.is_file() else b""
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = parse_json(line, finite=False)
        except DocumentError as error:
            raise VerificationError(f"{path}: line {number}: {error}") from error
        if not isinstance(row, dict) or type(row.get("step")) is not int:
            raise VerificationError(f"{path}: line {number}: no row of a run's")
        rows.append(row)
    return in_order(rows)


def in_order(written: Iterable[dict[str, float]]) -> list[dict[str, float]]:
    """Rows as they were written -> by step; a resumed run's replace those past its resume point."""
    rows: list[dict[str, float]] = []
    for row in written:
        while rows and rows[-1]["step"] > row["step"]:
            rows.pop()
        if rows and rows[-1]["step"] == row["step"]:
            rows[-1] = rows[-1] | row
        else:
            rows.append(row)
    return rows
