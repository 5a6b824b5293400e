"""Channels padded by zeros train the same network: over ranks, sharded, in both branches."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from tests.batch_norm_kernels import kernels_for_cpus
from tests.dist.pool import RankPool
from tests.dist.test_switches import train


def padded_train(folder: Path, stage: int, cuda: bool) -> None:
    """Two steps; ``cuda``: as there, with channels padded and its BN kernels."""
    if cuda:
        kernels_for_cpus()
        patch("sce_video.model.normalise.uses_kernels", lambda x: True).start()
        patch("sce_video.model.padded.pads", lambda x: True).start()
    train(folder, "r2plus1d_18", stage, "fp32", [])


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
def test_padded_training_is_the_same(stage: int, pool: RankPool, tmp_path: Path) -> None:
    found = []
    for cuda in (False, True):
        folder = tmp_path / str(cuda)
        folder.mkdir()
        pool.run(2, padded_train, folder, stage, cuda)
        found.append(torch.load(folder / "-0.pt"))
    plain, padded = found
    assert padded["state"].keys() == plain["state"].keys()
    torch.testing.assert_close(padded["losses"], plain["losses"], rtol=1e-5, atol=0)
    for name, value in plain["state"].items():
        assert padded["state"][name].shape == value.shape
        # Rounding flips the sign of a unit here and there; some values are still near 0.
        error = (padded["state"][name].double() - value.double()).norm()
        assert error <= 5e-3 * value.double().norm() + 1e-6 * value.numel() ** 0.5, name
