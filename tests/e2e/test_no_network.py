"""Without a network the whole package is imported, and the path runs on local files.

Each Python process writes down what it asks of a network: names, and addresses that are not of
this machine.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.runs import TRAIN, environment, write_config
from tests.videos import moving_square, write_video

WATCH = """
import os, sys
OWN = ("127.0.0.1", "localhost", "::1", os.uname().nodename)
def watch(event, arguments):
    if event == "socket.getaddrinfo":
        asked = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        asked = arguments[1][0]
    elif event == "socket.gethostbyname":
        asked = arguments[0]
    else:
        return
    if asked not in OWN and asked is not None:
        with open(os.environ["ASKED"], "a") as log:
            print(event, asked, sys.argv[:2], file=log)
sys.addaudithook(watch)
"""
IMPORT = """
import pkgutil, importlib, sce_video
for found in pkgutil.walk_packages(sce_video.__path__, "sce_video."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print("imported", len([name for name in sys.modules if name.startswith("sce_video")]))
"""
PROBE = """
import socket
try:
    socket.create_connection(("203.0.113.1", 80), 5)
except OSError as error:
    print(error)
"""


CLI = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
"""
MAIN = f"{CLI}from sce_video.cli import main\nsys.exit(main())"


@pytest.fixture
def alone(tmp_path: Path) -> Callable[..., str]:
    """Runs Python in a namespace whose only interface is the machine's own; what it prints."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH)
    (tmp_path / "home").mkdir()
    paths = {"ASKED": "asked", "HOME": "home"}
    imported = f"{tmp_path / 'watch'}:{REPOSITORY}"  # by workers, too
    own = environment(
        WANDB_MODE="offline",
        PYTHONPATH=imported,
        **{name: str(tmp_path / path) for name, path in paths.items()},
    )
    start = ["/usr/bin/unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]

    def run(*arguments: str) -> str:
        command = [*start, sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=240, check=False
        )
        if "unshare:" in done.stderr or "ip:" in done.stderr:
            pytest.skip("no namespaces here")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_without_a_network(tmp_path: Path, alone: Callable[..., str]) -> None:
    for i in range(36):
        split = "test" if i % 3 == 0 else "train"
        video = moving_square(24, seed=i)
        write_video(tmp_path / f"raw/{split}/class{i % 2}/{i}.mp4", video, fps=12)
    config = write_config(tmp_path / "tiny.yaml", tmp_path / "shards")
    asked, run = tmp_path / "asked", str(tmp_path / "run")
    assert "unreachable" in alone("-c", PROBE)
    assert "socket.connect 203.0.113.1" in asked.read_text()  # what watches does watch
    asked.unlink()
    assert int(alone("-c", CLI + IMPORT).split()[-1]) > 150
    alone("-c", MAIN, "shard", "folder", "--root", "raw", "--out", "shards", "--workers", "1")
    alone(TRAIN, "--config", str(config), f"run.dir={run}", "run.max_steps=1")
    lists = ["--bank", "train", "--queries", "test", "--clips", "1", "--crops", "1"]
    alone("-c", MAIN, "retrieve", "--encoder", run, "--shards", "shards", *lists)
    assert "report.html" in alone("-c", MAIN, "report", run)
    assert not asked.exists(), asked.read_text()
    home = tmp_path / "home"
    fetched = {path.name for path in home.rglob("*") if path.is_file()}
    assert not [name for name in fetched if name.endswith((".pth", ".safetensors", ".bin"))]
    assert not (home / ".cache/huggingface").exists()
    assert not (home / ".cache/torch/hub").exists()
