"""A run's folder: what is written there beside metrics and checkpoints."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sce_video.config.load import changed_keys, dump_config
from sce_video.config.tasks import Config
from sce_video.errors import UsageError
from sce_video.files import write_whole

if TYPE_CHECKING:
    from sce_video.engine.runtime import Runtime

log = logging.getLogger("sce_video")


class RunFolder:
    """The names in ``runs/NAME``. Nothing here needs torch; the main rank alone writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "run.log"
        self.checkpoints = path / "checkpoints"
        self.picture = path / "samples" / "views.png"

    def check(self, resume: bool) -> None:
        """Refuse to write into another run, or to resume nothing.

        Raises:
            UsageError: the folder is not empty, or holds no checkpoint to resume from.
        """
        saved = self.checkpoints.is_dir()
        if self.path.is_dir() and any(self.path.iterdir()) and not resume:
            hint = (
                "continue that run with run.resume=true" if saved else "delete it (no checkpoints)"
            )
            raise UsageError(f"{self.path}: not empty; {hint}, or start another with run.dir=...")
        if resume and not saved:
            raise UsageError(
                f"{self.path}: nothing to resume (no checkpoints); "
                "delete it and drop run.resume=true"
            )

    def log_to(self, runtime: Runtime) -> None:
        """Log to ``run.log`` from every rank, to standard error from the main one."""
        self.path.mkdir(parents=True, exist_ok=True)
        log.setLevel(logging.INFO)
        log.propagate = False
        rank = f" rank {runtime.rank}" if runtime.ranks > 1 else ""
        plain = f"%(levelname)s{rank}: %(message)s"
        file = logging.FileHandler(self.log, delay=True)
        file.setFormatter(logging.Formatter(f"%(asctime)s {plain}"))
        log.addHandler(file)
        if runtime.main:
            shown = logging.StreamHandler()
            shown.addFilter(lambda record: not getattr(record, "file_only", False))
            shown.setFormatter(logging.Formatter(plain))
            log.addHandler(shown)
            log.info("environment: %s", runtime.environment(), extra={"file_only": True})

    def begin(self, config: Config, deepspeed: dict[str, Any], step: int) -> None:
        """Write ``config.yaml`` and ``deepspeed.json``; log what a resume at ``step`` changes."""
        path = self.path / "config.yaml"
        if config.run.resume and path.is_file():
            for change in changed_keys(path.read_text(), config):
                log.warning("from step %d on %s", step + 1, change)
        write_whole(path, dump_config(config).encode())
        write_whole(self.path / "deepspeed.json", json.dumps(deepspeed, indent=1).encode())

    def status(self, state: str, step: int) -> None:
        """Write ``status.json``: running, done, interrupted or failed, and how far."""
        saved = sorted(self.checkpoints.glob("step-*"))
        newest = saved[-1].name if saved else None
        status = {"state": state, "step": step, "checkpoint": newest}
        write_whole(self.path / "status.json", json.dumps(status).encode())
