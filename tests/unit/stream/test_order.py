"""The order of samples is a pure function; ranks slice it, resume continues it."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sce_video.config.load import load_config
from sce_video.errors import UsageError
from sce_video.shardset.index import ShardIndex
from sce_video.stream.order import BatchPlan, Position, batch_plan, epoch_order


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


@st.composite
def runs(draw: st.DrawFn) -> tuple[BatchPlan, list[tuple[int, int]], int]:
    """A plan on one rank, other (ranks, micro-batches) that its batch divides by, a step."""
    shards = draw(st.lists(st.integers(1, 30), min_size=1, max_size=12))
    shard_of = np.repeat(np.arange(len(shards)), shards)
    grids = [(ranks, micro) for ranks in (1, 2, 3, 4) for micro in (1, 2, 3)]
    batch = draw(st.integers(1, len(shard_of)))
    fitting = [(ranks, micro) for ranks, micro in grids if batch % (ranks * micro) == 0]
    one = BatchPlan(
        rows=np.sort(draw(st.randoms(use_true_random=False)).sample(range(999), len(shard_of))),
        shard_of=shard_of,
        digest=draw(st.text(max_size=3)),
        seed=draw(st.integers(0, 9)),
        epochs=draw(st.integers(1, 3)),
        batch_size=batch,
    )
    return one, fitting, draw(st.integers(0, one.steps_per_epoch * one.epochs))


def global_batches(one: BatchPlan, ranks: int, micro: int, consumed: int) -> list[list[Position]]:
    """What all ranks see, step by step."""
    everyone = [
        list(replace(one, rank=r, ranks=ranks, accumulate=micro).micro_batches(consumed))
        for r in range(ranks)
    ]
    assert len({len(mine) for mine in everyone}) == 1  # nobody waits for another
    flat = [list(chain(*(mine[i] for mine in everyone))) for i in range(len(everyone[0]))]
    return [list(chain(*flat[i : i + micro])) for i in range(0, len(flat), micro)]


@given(runs())
def test_batches_depend_on_nothing_but_the_samples_consumed(
    run: tuple[BatchPlan, list[tuple[int, int]], int],
) -> None:
    """On any ranks and micro-batches the same, stopped and continued on any others."""
    one, grids, step = run
    whole = global_batches(one, 1, 1, 0)
    assert len(whole) == one.steps_per_epoch * one.epochs
    for epoch in range(one.epochs):
        rows = [p.row for batch in whole for p in batch if p.epoch == epoch]
        assert len(rows) == len(set(rows)) == one.steps_per_epoch * one.batch_size
        assert set(rows) <= set(one.rows.tolist())
    for ranks, micro in grids:
        assert global_batches(one, ranks, micro, 0) == whole
        assert global_batches(one, ranks, micro, step * one.batch_size) == whole[step:]


def test_an_epoch_without_a_full_batch_names_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"11 samples .* 12"):
        plan(samples=11)
    with pytest.raises(UsageError, match=r"12 .* 5 ranks"):
        plan(ranks=5)


def test_ten_million_ids_are_planned_quickly() -> None:
    shard_of = np.repeat(np.arange(10_000), 1000)
    began = time.process_time()
    epoch_order(shard_of, 0, 0, "d")
    # 0.6 s on an idle core; the bound only catches a loop over the ids.
    assert time.process_time() - began < 20


def test_short_videos_may_be_left_out_and_grids_need_layered_shards(index: ShardIndex) -> None:
    def planned(*overrides: str) -> BatchPlan:
        given = [f"data.shards={index.folder}", "data.split=null", "train.batch_size=2"]
        config = load_config("demo.yaml", [*given, *overrides])
        return batch_plan(config, index, 0, 1)

    assert len(planned("clip.seconds=1").rows) == 6  # videos of 0.8 s repeat frames
    with pytest.raises(UsageError, match=r"all videos are shorter than clip\.seconds=1"):
        planned("clip.seconds=1", "data.on_short=drop")
    with pytest.raises(UsageError, match=r"clip\.grid=8 needs shards made with --encode layered"):
        planned("clip.frames=8", "clip.seconds=2.56", "clip.grid=8")
