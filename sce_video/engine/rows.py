"""Rows of ``metrics.jsonl``: what steps gave, as means since the last row."""

from __future__ import annotations

AS_IT_IS = ("lr", "momentum", "bad_samples")
"""Schedules and counts, of which a row has the newest value."""


class RowMeans:
    """Scalars of steps, averaged until they are taken."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, step: dict[str, float]) -> None:
        """One step's scalars; some may be of some steps alone."""
        for name, value in step.items():
            fresh = name in AS_IT_IS or name not in self._sums
            self._sums[name] = value if fresh else self._sums[name] + value
            self._counts[name] = 1 if fresh else self._counts[name] + 1

    def take(self) -> dict[str, float]:
        """The means since this was last called."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means
