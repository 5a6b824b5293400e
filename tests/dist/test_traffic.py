"""What the plan says of the network is what two ranks send."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.runs import BIN, make_shards, run, write_config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("traffic")
    return write_config(root / "tiny.yaml", make_shards(root))


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        pytest.param(1, "train.accumulate=2", marks=pytest.mark.slow),
        pytest.param(0, "model.trunk=r3d_18", marks=pytest.mark.soak),
        pytest.param(2, "train.accumulate=2", marks=pytest.mark.soak),
    ],
)
def test_planned_bytes_are_sent(config: Path, stage: int, more: str) -> None:
    done = run(
        str(BIN / "torchrun"),
        "--standalone",
        "--nproc_per_node",
        "2",
        str(REPOSITORY / "tests/dist/traffic.py"),
        str(config),
        more,
        "run.max_steps=2",
        f"deepspeed.zero_optimization.stage={stage}",
        "data.workers=0",
        f"run.dir={config.parent / f'run-{stage}'}",
        PYTHONPATH=str(REPOSITORY),
    )
    assert done.returncode == 0, done.stderr
    line = next(text for text in done.stdout.splitlines() if text.startswith("traffic"))
    planned, seen = map(float, line.split()[1:])
    assert planned == pytest.approx(seen, rel=0.01)
