"""Features under real launchers: the same bits as from one process, also after a SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sce_video.model.encoder import EncoderSpec, build_encoder, save_encoder
from tests.conftest import REPOSITORY
from tests.runs import BIN, environment, make_shards, run

HERE = str(REPOSITORY)
pytestmark = pytest.mark.slow

# The command, on one core as each of several ranks is, with parts every few videos.
ONE_CORE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from sce_video.cli import main
from sce_video.evals import embed
embed._SAVE_EVERY = 0.0
if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embed")
    make_shards(root, 36)
    spec = EncoderSpec(
        trunk="r2plus1d_18",
        width=8,
        frames=4,
        seconds=0.5,
        size=42,
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
    )
    torch.manual_seed(0)
    encoder = build_encoder(spec)
    for name in ("one", "deepspeed", "torchrun"):
        (root / name).mkdir()
        save_encoder(root / name / "encoder.safetensors", encoder, spec)
    (root / "one_core.py").write_text(ONE_CORE)
    return root


def arguments(root: Path, name: str) -> list[str]:
    return [
        "retrieve",
        "--encoder",
        str(root / name),
        "--shards",
        str(root / "shards"),
        "--workers",
        "1",
    ]


def features(root: Path, name: str) -> list[dict[str, Tensor]]:
    """Of all folders, in the order of their digests: the same for all copies of the encoder."""
    folders = sorted((root / name / "features").iterdir())
    assert all(not (folder / "parts").exists() for folder in folders)
    return [load_file(folder / "features.safetensors") for folder in folders]


def test_launchers_and_a_kill_give_the_bits_of_one_process(root: Path) -> None:
    command = [sys.executable, str(root / "one_core.py")]
    done = run(*command, *arguments(root, "one"), PYTHONPATH=HERE)
    assert done.returncode == 0, done.stderr
    # Under DeepSpeed's launcher, as the README has it: both lists by one command.
    launch = [str(BIN / "deepspeed"), "--num_gpus", "2", "--module", "sce_video"]
    done = run(*launch, *arguments(root, "deepspeed"), PYTHONPATH=HERE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("12 queries against 24 videos, 0 unreadable") == 1
    # Under torchrun, killed in the middle; then as three ranks.
    launch = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node"]
    job = subprocess.Popen(
        [*launch, "2", str(root / "one_core.py"), *arguments(root, "torchrun")],
        env=environment(PYTHONPATH=HERE),
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    while len(list((root / "torchrun").glob("features/*/parts/*.safetensors"))) < 4:
        assert job.poll() is None
        time.sleep(0.02)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    time.sleep(2)  # ranks have sessions of their own: they see their launcher gone, or end
    kept = list((root / "torchrun").glob("features/*/parts/*.safetensors"))
    assert kept, "it had ended before it was killed"
    done = run(*launch, "3", "-m", "sce_video", *arguments(root, "torchrun"), PYTHONPATH=HERE)
    assert done.returncode == 0, done.stderr
    expected = features(root, "one")
    assert len(expected) == 2
    for name in ("deepspeed", "torchrun"):
        for ours, theirs in zip(features(root, name), expected, strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    results = [(root / n / "retrieval/neighbours.json") for n in ("deepspeed", "torchrun")]
    assert results[0].read_text() == results[1].read_text()
