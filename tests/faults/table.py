"""The table: how many inputs of each target were tried, read, refused; which failed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.attempt import AS_IT_IS, Case, Limits
from tests.faults.child import Result
from tests.faults.children import run
from tests.faults.targets import evals, lists, media, pages, runs, sets, tars, weights
from tests.faults.targets.house import House
from tests.faults.targets.target import Target

TARGETS: tuple[Target, ...] = tuple(
    target
    for room in (sets, media, tars, lists, runs, pages, weights, evals)
    for target in room.TARGETS
)
_OUTCOMES = ("read", "refused", "failed")


@dataclass
class Table:
    """What became of the inputs so far."""

    seed: int
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of CPU
    failures: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count an input."""
        name = result.case.target.name
        self.counts.setdefault(name, Counter())[result.verdict.outcome] += 1
        self.seconds[name] = self.seconds.get(name, 0.0) + result.seconds
        if result.verdict.outcome == "failed":
            self.failures.append(result)

    @property
    def tried(self) -> int:
        """Inputs of all targets."""
        return sum(sum(count.values()) for count in self.counts.values())

    def lines(self) -> Iterator[str]:
        """The table for people, then a line a failure."""
        yield (
            f"{'target':<24}{'tried':>9}" + "".join(f"{name:>9}" for name in _OUTCOMES) + "   CPU s"
        )
        rows = {**dict(sorted(self.counts.items())), "all": sum(self.counts.values(), Counter())}
        seconds = {**self.seconds, "all": sum(self.seconds.values())}
        for name, count in rows.items():
            cells = (sum(count.values()), *(count[outcome] for outcome in _OUTCOMES))
            shown = "".join(f"{cell:>9,}" for cell in cells)
            yield f"{name:<24}{shown}{seconds[name]:>8.1f}"
        for result in self.failures:
            yield f"{result.place}: {result.verdict.kind!a} {result.verdict.why[:300]!a}"
            yield f"  {self.repeat(result)}"

    def repeat(self, result: Result) -> str:
        """The command that tries one input again."""
        name = result.case.target.name
        start = f"python -m tests.faults --target '{name}' --seed {self.seed}"
        return f"{start} --number={result.number}"

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "seed": self.seed,
            "tried": self.tried,
            "targets": {name: dict(count) for name, count in self.counts.items()},
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "failures": [
                {
                    "target": result.case.target.name,
                    "number": result.number,
                    "file": result.place,
                    "kind": result.verdict.kind,
                    "why": result.verdict.why,
                    "repeat": self.repeat(result),
                }
                for result in self.failures
            ],
        }


def made(targets: Sequence[Target], root: Path, seed: int) -> list[Case]:
    """The targets with their good inputs, made below ``root``."""
    house = House(root / "house")
    house.root.mkdir()
    cases = []
    for number, target in enumerate(targets):
        good = root / f"good-{number}"
        good.mkdir()
        target.make(house, good)
        cases.append(Case(target, good, seed))
    return cases


def try_all(
    cases: Sequence[Case], root: Path, inputs: int, limits: Limits, processes: int | None = None
) -> Table:
    """Read the good inputs and at least so many bad ones.

    Args:
        cases: targets that were made.
        root: a folder for what is made.
        inputs: bad ones, shared among the targets by their shares.
        limits: of each.
        processes: at a time; None = one a core.
    """
    work = root / "work"
    work.mkdir()
    total = sum(case.target.share for case in cases)
    todo = []
    for case in cases:
        good = range(AS_IT_IS, AS_IT_IS - len(case.target.places), -1)
        todo.append((case, [*good, *range(-(-inputs * case.target.share // total))]))
    table = Table(cases[0].seed)
    for result in run(todo, work, limits, processes or len(os.sched_getaffinity(0))):
        table.add(result)
    return table
