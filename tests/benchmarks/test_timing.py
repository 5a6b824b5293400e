"""How ways are timed."""

from __future__ import annotations

from functools import partial

import pytest

from tests.benchmarks.timing import measure

pytestmark = pytest.mark.slow


def test_rows_take_turns_in_orders_that_change() -> None:
    ran: list[str] = []
    ways = {name: lambda number, name=name: partial(ran.append, name) for name in "abc"}
    spent = measure(ways, 4, 2)
    turns = ["".join(ran[at : at + 3]) for at in range(0, 24, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(turns)) > 2
    assert spent["a"].cpu.shape == (4, 2)
