"""One pool of ranks for all tests of this folder, and one thread for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.dist.pool import RankPool


@pytest.fixture(scope="session")
def pool() -> Iterator[RankPool]:
    with RankPool() as pool:
        yield pool


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the ranks have: for tensors this small threads cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
