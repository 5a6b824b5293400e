"""Images, from files to an evaluated encoder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runs import TRAIN, run, sce_video, write_config


@pytest.mark.slow
def test_images_go_the_whole_path(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["path,label,split"]
    for i in range(36):
        split = "test" if i % 3 == 0 else "train"
        rows.append(f"{i}.jpg,class{i % 2},{split}")
        pixels = rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)
        (tmp_path / "raw").mkdir(exist_ok=True)
        Image.fromarray(pixels).resize((60, 50)).save(tmp_path / f"raw/{i}.jpg")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    done = sce_video(
        "shard",
        "folder",
        "--root",
        str(tmp_path / "raw"),
        "--csv",
        str(tmp_path / "list.csv"),
        "--out",
        str(tmp_path / "shards"),
    )
    assert done.returncode == 0, done.stderr
    config = write_config(tmp_path / "tiny.yaml", tmp_path / "shards")
    done = run(
        sys.executable,
        TRAIN,
        "--config",
        str(config),
        f"run.dir={tmp_path / 'run'}",
        "clip=null",
        "augment.recipe=imagenet_two_view",
        "augment.size=32",
        "run.max_steps=2",
    )
    assert done.returncode == 0, done.stderr
    assert "24 images" in done.stdout
    assert "2 crops of an image, 32 px" in done.stdout
    done = sce_video(
        "retrieve", "--encoder", str(tmp_path / "run"), "--shards", str(tmp_path / "shards")
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run/retrieval/retrieval.json").read_text())
    assert result["protocol"]["views"].startswith("1 clips x 1 crops")
    assert sce_video("report", str(tmp_path / "run")).returncode == 0
    assert (tmp_path / "run/report.html").stat().st_size > 10_000
