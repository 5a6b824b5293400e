"""The order of samples is a pure function; ranks slice it, resume continues it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sce_video.errors import UsageError
from sce_video.stream.order import BatchPlan, Position, epoch_order


def plan(rank: int = 0, ranks: int = 1, accumulate: int = 1, samples: int = 50) -> BatchPlan:
    return BatchPlan(
        rows=np.arange(samples) * 2,
        shard_of=np.arange(samples) // 7,
        digest="d",
        seed=3,
        epochs=3,
        batch_size=12,
        accumulate=accumulate,
        rank=rank,
        ranks=ranks,
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(0, 5), st.integers(1, 9))
def test_an_epoch_is_a_permutation_in_windows(sizes: list[int], epoch: int, window: int) -> None:
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    order = epoch_order(shard_of, 0, epoch, "d", window)
    assert sorted(order.tolist()) == list(range(len(shard_of)))
    assert order.tolist() == epoch_order(shard_of, 0, epoch, "d", window).tolist()
    # Whole windows follow each other: a shard is never met again once its window is over.
    seen = shard_of[order]
    places = {shard: np.flatnonzero(seen == shard) for shard in set(seen.tolist())}
    overlapping = [
        sum(1 for other in places.values() if other[0] <= mine[-1] and mine[0] <= other[-1])
        for mine in places.values()
    ]
    assert max(overlapping) <= window


def test_epochs_seeds_and_sets_differ() -> None:
    shard_of = np.zeros(100, np.int64)
    orders = [epoch_order(shard_of, s, e, d) for s, e, d in ((0, 0, "a"), (0, 1, "a"), (1, 0, "a"))]
    orders.append(epoch_order(shard_of, 0, 0, "b"))
    assert len({order.tobytes() for order in orders}) == 4


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_global_batches_do_not_depend_on_ranks(ranks: int, accumulate: int) -> None:
    everyone = [list(plan(r, ranks, accumulate).micro_batches(0)) for r in range(ranks)]
    assert len({len(mine) for mine in everyone}) == 1
    whole = [list(batch) for batch in plan().micro_batches(0)]
    for step, expected in enumerate(whole):
        parts: list[Position] = []
        for micro in range(accumulate):
            for mine in everyone:
                parts += mine[step * accumulate + micro]
        assert parts == expected


def test_every_sample_at_most_once_an_epoch_and_resume_continues() -> None:
    batches = list(plan().micro_batches(0))
    assert len(batches) == 3 * (50 // 12)
    for epoch in range(3):
        rows = [p.row for batch in batches for p in batch if p.epoch == epoch]
        assert len(rows) == len(set(rows)) == 48
    for consumed in (12, 48, 60):
        assert list(plan().micro_batches(consumed)) == batches[consumed // 12 :]


def test_an_epoch_without_a_full_batch_names_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"11 samples .* 12"):
        plan(samples=11)
    with pytest.raises(UsageError, match=r"12 .* 5 ranks"):
        plan(ranks=5)


def test_ten_million_ids_are_planned_quickly() -> None:
    shard_of = np.repeat(np.arange(10_000), 1000)
    began = time.process_time()
    epoch_order(shard_of, 0, 0, "d")
    # 0.6 s on an idle core; the bound only catches a fall back to a comparison sort or a loop.
    assert time.process_time() - began < 4
