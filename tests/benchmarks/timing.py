"""CPU time of several ways to do one thing, on the same inputs, in one run.

Other load on a machine comes and goes, and what runs finds the caches as the one before left them:
so the ways take turns on each input, in an order drawn anew each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Work = Callable[[], object]
Prepare = Callable[[int], Work]
"""Number of the input -> what is timed; called before the clock starts."""


@dataclass(frozen=True)
class Spent:
    """Seconds ``[rounds, inputs]``."""

    cpu: NDArray[np.float64]
    wall: NDArray[np.float64]

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds an input: the least of the rounds for each, since load only adds."""
        return float(1000 * self.cpu.min(0).mean())

    @property
    def wall_ms(self) -> float:
        """Wall milliseconds an input: the least of the rounds for each."""
        return float(1000 * self.wall.min(0).mean())

    @property
    def noise(self) -> float:
        """How far the median of the rounds lies above the least, on average over the inputs."""
        return float(np.median(self.cpu, 0).mean() / self.cpu.min(0).mean() - 1)


def measure(ways: Mapping[str, Prepare], rounds: int, inputs: int) -> dict[str, Spent]:
    """Time every way on every input, ``rounds`` times."""
    rng = np.random.default_rng(0)
    names = list(ways)
    spent = {name: Spent(*np.zeros((2, rounds, inputs))) for name in names}
    for turn in range(rounds):
        for number in range(inputs):
            for place in rng.permutation(len(names)):
                name = names[place]
                work = ways[name](number)
                wall, cpu = time.perf_counter(), time.process_time()
                result = work()
                spent[name].cpu[turn, number] = time.process_time() - cpu
                spent[name].wall[turn, number] = time.perf_counter() - wall
                del result, work  # their memory is not the next one's
    return spent


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes in one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def print_table(title: str, columns: Mapping[str, str], rows: list[dict[str, object]]) -> None:
    """Print ``rows``; ``columns``: key -> format of its values, shown under the key's name."""
    widths = {key: max(len(key), 9) for key in columns}
    print(f"{title:<36} " + " ".join(f"{key.replace('_', ' '):>{widths[key]}}" for key in columns))
    for row in rows:
        cells = [
            f"{'' if row.get(key) is None else format(row[key], form):>{widths[key]}}"
            for key, form in columns.items()
        ]
        print(f"{row['name']:<36} {' '.join(cells)}".rstrip())


def at_least(name: str, value: float, least: float) -> dict[str, Any]:
    """A target: what ``value`` is to reach."""
    return {"name": name, "value": value, "least": least, "met": value >= least}


def at_most(name: str, value: float, most: float) -> dict[str, Any]:
    """A target: what ``value`` is to stay within."""
    return {"name": name, "value": value, "most": most, "met": value <= most}


def print_goals(result: Mapping[str, Any], *, least: str, most: str = ".1%") -> None:
    """Print ``targets`` with the formats of what is to be at least or at most, and ``missing``."""
    print("\nwhat this package aims at, on this machine")
    for target in result["targets"]:
        kind, form = ("least", least) if "least" in target else ("most", most)
        met = "met" if target["met"] else "not met"
        value, goal = format(target["value"], form), format(target[kind], form)
        print(f"  {target['name']}: {value} (at {kind} {goal}) {met}")
    for name, why in result["missing"].items():
        print(f"not measured: {name}: {why}")
