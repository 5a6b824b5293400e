"""The demo's videos and manners; the demo itself is run whole by CI."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sce_video.cli import main
from sce_video.lock import Lock
from sce_video.shard.sources.demo import CLASSES, FRAMES, SIZE, render_set, render_video
from tests.check_demo import FACTOR
from tests.conftest import REPOSITORY


def test_videos_are_drawn_from_class_and_seed_alone() -> None:
    first = render_video("disc_sway", 1)
    assert first.shape == (FRAMES, SIZE, SIZE, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, render_video("disc_sway", 1))
    assert (first != render_video("disc_sway", 2)).any()
    with pytest.raises(ValueError, match="unknown class"):
        render_video("disc_jump", 1)


def test_a_set_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        render_set(tmp_path / name, seed=3, train_per_class=1, test_per_class=1)
        files = sorted((tmp_path / name).rglob("*.mp4"))
        assert len(files) == 2 * len(CLASSES)
        assert len({p.stem for p in files}) == len(files)  # train and test share no video
        digests.append([hashlib.sha256(p.read_bytes()).hexdigest() for p in files])
    assert digests[0] == digests[1]


def test_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--dry-run"]) == 0
    assert "configs/demo.yaml" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_the_demos_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    assert main(["demo", "--out", str(mine)]) == 2
    assert "not made by the demo" in capsys.readouterr().err
    assert (mine / "thesis.tex").read_text() == "years of work"


def test_a_folder_that_another_demo_writes_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    with Lock(tmp_path / "demo.lock"):
        assert main(["demo", "--out", str(out)]) == 2
    assert f"{out}: is being written by process" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2
    assert "file: is a file; give a folder with --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("trained", "code"), [(0.2 * FACTOR, 0), (0.2 * FACTOR - 0.01, 1)])
def test_the_check_of_the_demo_can_fail(trained: float, code: int, tmp_path: Path) -> None:
    rows = [
        {"name": "raw pixels", "R@1": 0.2},
        {"name": "untrained trunk", "R@1": 0.1},
        {"name": "trained trunk", "R@1": trained},
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"rows": rows}))
    script = str(REPOSITORY / "tests" / "check_demo.py")
    done = subprocess.run([sys.executable, script, str(path)], check=False)
    assert done.returncode == code
