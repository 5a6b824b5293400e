"""Which queries are shown."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sce_video.report.gallery import choose

QUERIES = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=80)


@given(queries=QUERIES, limit=st.integers(0, 80))
def test_choice_is_a_beginning_of_one_order(queries: list[tuple[int, bool]], limit: int) -> None:
    classes, right = [c for c, _ in queries], [r for _, r in queries]
    whole = choose(classes, right, len(queries))
    assert sorted(whole) == list(range(len(queries)))
    assert choose(classes, right, limit) == whole[:limit]


def test_choice_is_even_over_classes_and_verdicts() -> None:
    classes = [number % 20 for number in range(2000)]
    right = [number // 20 % 10 == 0 for number in range(2000)]  # one in ten
    chosen = choose(classes, right, 60)
    assert set(Counter(classes[i] for i in chosen).values()) == {3}
    assert sum(right[i] for i in chosen) == 30


def test_choice_spreads_over_many_classes() -> None:
    chosen = choose(list(range(400)), [False] * 400, 8)
    assert max(np.diff(sorted(chosen))) <= 100
