"""The training loop on two ranks: what is said is said once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.dist.pool import RankPool, pretrain, small_config


def resume(config: Any, errors: Path) -> None:
    """Training whose standard error goes to a file."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    pretrain(config)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_in_one_line(pool: RankPool, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    run: dict[str, Any] = {"max_steps": 8}
    pool.run(2, pretrain, small_config(folder, run=run, train={"save_every": 1, "epochs": 5}))
    newest = folder / "checkpoints" / "step-00000008"
    with (newest / "model.safetensors").open("ab") as stream:
        stream.write(b"more")
    run |= {"resume": True, "max_steps": 6}
    pool.run(2, resume, small_config(folder, run=run), tmp_path / "errors")
    line = f"passing over {newest}: model.safetensors is not what its manifest names"
    for text in ((tmp_path / "errors").read_text(), (folder / "run.log").read_text()):
        assert [found for found in text.splitlines() if "passing over" in found] == [
            found for found in text.splitlines() if found.endswith(f"WARNING rank 0: {line}")
        ]
        assert text.count("passing over") == 1
    assert json.loads((folder / "status.json").read_text())["step"] == 6
