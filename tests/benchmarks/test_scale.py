"""Many GPUs on paper: the page has the module's tables, and what is simulated is what is known."""

from __future__ import annotations

import pytest

from tests.benchmarks import scale
from tests.benchmarks.scale import BEGIN, END, NOISE, PAGE, Row, breaks, latency, row, simulate


@pytest.mark.parametrize("ranks", [1, 8, 64])
def test_the_slowest_of_n_is_what_n_exponential_delays_have(ranks: int) -> None:
    """The mean of their largest is the harmonic number of n times their mean."""
    harmonic = sum(1 / k for k in range(1, ranks + 1))
    found = simulate(ranks, 1, pieces=1, steps=4000)
    assert found - 1 == pytest.approx(NOISE * harmonic, rel=0.05)
    # Waiting after each of many pieces costs what waiting after one does.
    pieces = simulate(ranks, ranks, pieces=50, steps=400)
    assert pieces - 1 == pytest.approx(NOISE * harmonic, rel=0.05)


def test_groups_wait_less_than_all_and_more_than_none() -> None:
    alone, groups, together = (simulate(64, group, pieces=100) for group in (1, 8, 64))
    assert alone < groups < together
    assert simulate(64, 8, pieces=100) == groups  # seeded
    assert simulate(64, 8, pieces=100, seed=1) != groups


def test_a_small_all_reduce_grows_from_a_node_to_many() -> None:
    near, far = scale.LATENCY
    assert latency(1) == latency(8) == near
    assert latency(512) == pytest.approx(far)
    assert latency(64) == pytest.approx((near + far) / 2)


def test_a_row_is_the_sum_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "added", lambda name: (25e6 * 64 / 63, 50e6 / 63, 100))
    name = "sce_k400_r3d_50_8frames"
    found = row(name, 64, 64)
    assert (found.batch, found.lives) == (4096, 8)
    assert (found.gradients, found.keys) == pytest.approx((1, 2))
    assert found.bn == pytest.approx(100 * 0.075)
    assert found.step == pytest.approx(540 + 1 + 2 + 7.5 + found.waiting)
    clips = 2 * 64 / found.step * 1000
    assert found.cores == pytest.approx({1: clips / 170, 8: clips / 298})
    assert set(row("sce_k400_r2plus1d_18", 64, 8).cores) == {1}  # its frames are 2 apart
    near = row(name, 8, 8)  # not over the network
    assert near.gradients == pytest.approx(64 / 63 * 7 / 8 / 8)
    assert near.keys == pytest.approx(2 / 9 / 8)
    assert row(name, 64, 8).step < found.step


def test_what_breaks_first() -> None:
    small = Row(64, work=400, gradients=9, bn=5, keys=1, waiting=2, lives=8, cores={})
    assert breaks(small)[0] == "gradients and weights: 9 ms"
    assert breaks(small._replace(waiting=20)) == (
        "BN, its all-reduces and waiting at each: 25 ms",
        "`model.bn_group=8`",
    )
    assert breaks(small._replace(keys=10))[0] == "gathered keys: 10 ms"
    assert breaks(small._replace(gpus=512, lives=1))[0] == (
        "the method: no rate is known for 32,768 videos; a key lives 1 step"
    )
    assert breaks(small._replace(gpus=8)) == ("nothing: 4% are added", "--")


def test_the_page_has_the_tables() -> None:
    found = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert found == scale.tables(), "remake: python -m tests.benchmarks.scale --write"
