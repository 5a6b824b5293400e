"""Ranks start alike: what the main one found counts, and a rank that sees other files ends all."""

from __future__ import annotations

import pytest

from tests.dist.pool import RankPool


def start(problem_of: int | None) -> None:
    """A rank that takes what the main one found, and may have a problem with it."""
    from sce_video.engine.runtime import agree, share, start_runtime, stop_runtime

    runtime = start_runtime(workers=0)
    try:
        assert share(("step-00000002", runtime.rank)) == ("step-00000002", 0)
        agree(runtime, f"rank {runtime.rank} sees no step" if runtime.rank == problem_of else None)
    finally:
        stop_runtime()


@pytest.mark.slow
def test_ranks_take_what_the_main_one_found(pool: RankPool) -> None:
    pool.run(3, start, None)


def test_a_problem_of_one_rank_ends_all(pool: RankPool) -> None:
    with pytest.raises(AssertionError, match="UsageError: rank 2 sees no step"):
        pool.run(3, start, 2)
