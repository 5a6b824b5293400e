"""One pool of ranks for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dist.pool import RankPool


@pytest.fixture(scope="session")
def pool() -> Iterator[RankPool]:
    with RankPool() as pool:
        yield pool
