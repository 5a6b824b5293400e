"""Training runs started as a user would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import yaml
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import REPOSITORY
from tests.videos import moving_square, write_video

BIN = Path(sys.executable).parent
TRAIN = str(REPOSITORY / "sce_video" / "train.py")


def environment(**extra: str) -> dict[str, str]:
    """This environment without a launcher's variables and without W&B."""
    launcher = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PYTHONPATH"}
    kept = {name: value for name, value in os.environ.items() if name not in launcher}
    return {**kept, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", **extra}


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def run(
    *command: str, cwd: Path = REPOSITORY, limit: float = 240, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command, of ``limit`` seconds at most; its output is captured."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )


def sce_video(
    *arguments: str, cwd: Path = REPOSITORY, limit: float = 240, **env: str
) -> subprocess.CompletedProcess[str]:
    """``sce-video`` from this checkout, installed or not."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from sce_video.cli import main"
    start = [sys.executable, "-c", f"{code}; sys.exit(main())", str(REPOSITORY)]
    return run(*start, *arguments, cwd=cwd, limit=limit, **env)


def make_shards(root: Path, videos: int = 36) -> Path:
    """A shard set of made videos in three classes, split train and test."""
    for i in range(videos):
        split = "test" if i % 3 == 0 else "train"
        write_video(
            root / "raw" / f"class{i % 3}" / f"{split}{i}.mp4", moving_square(24, seed=i), fps=12
        )
    rows = [
        f"class{i % 3}/{'test' if i % 3 == 0 else 'train'}{i}.mp4,class{i % 2},"
        f"{'test' if i % 3 == 0 else 'train'}"
        for i in range(videos)
    ]
    (root / "list.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    out = root / "shards"
    done = sce_video(
        "shard",
        "folder",
        "--root",
        str(root / "raw"),
        "--csv",
        str(root / "list.csv"),
        "--out",
        str(out),
        "--workers",
        "1",
    )
    assert done.returncode == 0, done.stderr
    return out


def write_config(path: Path, shards: Path) -> Path:
    """A tiny pretraining: 24 videos, batches of 12, 2 steps an epoch."""
    config = {
        "task": "pretrain",
        "data": {"shards": str(shards), "split": "train", "workers": 1},
        "clip": {"frames": 4, "seconds": 0.6, "size": 32},
        "model": {"width": 4, "projector": {"hidden": 32, "dim": 16}, "predictor": {"hidden": 32}},
        "objective": {"queue": 64},
        "optim": {"lr": 0.05, "warmup_epochs": 1},
        "train": {"epochs": 4, "batch_size": 12, "save_every": 2},
        "track": {"every": 1},
    }
    path.write_text(yaml.safe_dump(config))
    return path


def final_state(run_folder: Path) -> dict[str, Tensor]:
    """All tensors of a run's newest checkpoint: online, momentum, queue, optimizer."""
    newest = sorted((run_folder / "checkpoints").glob("step-*"))[-1]
    return load_file(newest / "model.safetensors") | load_file(newest / "optimizer.safetensors")


def relative_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest ``|x - y| / |y|`` over the tensors; means that are 0 in theory count as 1e-3."""
    assert a.keys() == b.keys()
    worst = 0.0
    for name, x in a.items():
        y = b[name].double()
        worst = max(worst, float((x.double() - y).norm() / y.norm().clamp(min=1e-3)))
    return worst
