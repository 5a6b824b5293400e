"""Training from tars that others made and a server holds: stop, go on, one fetch a tar."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import pytest

from tests.runs import TRAIN, run, write_config
from tests.servers import serving
from tests.videos import moving_square, write_video


@pytest.mark.slow
def test_train_stop_and_go_on(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    for i in range(2):
        with tarfile.open(tmp_path / f"served/{i}.tar", "w") as tar:
            for n in range(6):
                video = moving_square(12, seed=6 * i + n)
                tar.add(write_video(tmp_path / f"{i}{n}.mp4", video, fps=12), f"{n}.mp4")
    config = write_config(tmp_path / "tiny.yaml", tmp_path)
    with serving(tmp_path / "served") as server:
        command = (
            sys.executable,
            TRAIN,
            "--config",
            str(config),
            f"run.dir={tmp_path / 'run'}",
            f"data.shards={server.url}/{{0..1}}.tar",
            "data.split=null",
            "data.epoch_samples=12",
            f"data.cache={tmp_path / 'cache'}",
        )
        done = run(*command, "run.max_steps=1")
        assert done.returncode == 0, done.stderr
        assert "2 tars without an index, epochs of 12 videos" in done.stdout
        assert "steps      1 (run.max_steps), on the schedules of 4 = 4 epochs x 1" in done.stdout
        done = run(*command, "run.max_steps=3", "run.resume=true")
        assert done.returncode == 0, done.stderr
        assert dict(server.gets) == {"0.tar": 1, "1.tar": 1}
    log = (tmp_path / "run/run.log").read_text()
    assert log.count("going on with a fresh order of all of them") == 1
    assert json.loads((tmp_path / "run/status.json").read_text())["step"] == 3
    rows = [json.loads(row) for row in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["train/bad_samples"]) for row in rows] == [(1, 0), (2, 0), (3, 0)]
