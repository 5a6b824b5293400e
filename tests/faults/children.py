"""Inputs in forked children: each death and each hang is blamed on its input.

A child takes a batch of one target's inputs. Where it dies or hangs, the next one goes on behind
that input.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from tests.faults.attempt import Case, Limits
from tests.faults.child import Child, Result

_BATCH = 50
_TICK = 0.5  # seconds between looks for children that died or hang


def run(
    todo: Iterable[tuple[Case, Sequence[int]]], work: Path, limits: Limits, processes: int
) -> Iterator[Result]:
    """Read inputs, several at a time.

    Args:
        todo: targets and the numbers of their inputs.
        work: a folder for what is made.
        limits: of each input.
        processes: children at a time.

    Yields:
        The result of each input, as they end.
    """
    waiting = deque(
        (case, numbers[at : at + _BATCH])
        for case, numbers in todo
        for at in range(0, len(numbers), _BATCH)
    )
    gc.collect()
    gc.freeze()  # what is there is not looked at after each input
    alive: list[Child] = []
    try:
        while waiting or alive:
            while waiting and len(alive) < processes:
                alive.append(Child(*waiting.popleft(), work, limits))
            wait([child.said for child in alive], _TICK)
            for child in [*alive]:
                yield from child.hear()
                if child.has_ended():
                    alive.remove(child)
                    yield from child.close()
                    if child.left:
                        waiting.appendleft((child.case, [*child.left]))
    finally:
        gc.unfreeze()
        for child in alive:
            child.end()
