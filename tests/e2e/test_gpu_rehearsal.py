"""The tests on a GPU run through on a CPU: they do not rot where there is no GPU."""

from __future__ import annotations

import sys

import pytest

from tests.runs import run

QUICK = "augment or objectives or syncbn or (while_training and 3) or one_wait_a_step[1]"


@pytest.mark.slow
def test_the_quick_ones_pass_on_a_cpu() -> None:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "--device=cpu", "tests/gpu"]
    done = run(*command, "-p", "no:cacheprovider", "-q", "-k", QUICK)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout


@pytest.mark.slow
def test_without_a_gpu_they_are_skipped_with_a_word() -> None:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-p", "no:cacheprovider"]
    done = run(*command, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "no NVIDIA GPU here; --device=cpu rehearses the test" in done.stdout
    assert "1 passed" in done.stdout  # that all golden files are read
