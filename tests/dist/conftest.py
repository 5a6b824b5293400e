"""One pool of ranks for all tests of this folder, and one thread for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dist.pool import RankPool


@pytest.fixture(scope="session")
def pool() -> Iterator[RankPool]:
    with RankPool() as pool:
        yield pool


@pytest.fixture(autouse=True)
def as_the_ranks(one_thread: None) -> None:
    """As the ranks have: for tensors this small threads cost more than they give."""
