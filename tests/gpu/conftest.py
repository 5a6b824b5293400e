"""The tier on a GPU: ``pytest -m gpu``; ``--device=cpu`` rehearses its tests without one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.gpu.ranks import FreshRanks, all_digits


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """What the tests run on."""
    if request.config.getoption("device") == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here; --device=cpu rehearses the test")
    all_digits()
    return torch.device("cuda", 0)


@pytest.fixture(scope="session")
def ranks(device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreshRanks]:
    """Where jobs run; asks for the device so that nothing starts without one."""
    pool = FreshRanks(tmp_path_factory.mktemp("libraries"))
    yield pool
    pool.close()
