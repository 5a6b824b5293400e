"""One reader: its good input, what is damaged in it, and how it is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.faults.mutators.dice import Mutator, dice
from tests.faults.mutators.files import replace
from tests.faults.targets.house import House
from tests.faults.verdict import Refusals

_REPLACED = 0.05  # of the inputs


@dataclass(frozen=True)
class Target:
    """A reader of files."""

    name: str
    make: Callable[[House, Path], object]
    """Makes the good input in a folder, of what the house has."""
    places: Mapping[str, Mutator]
    """File in that folder -> what damages it; one of them in each input."""
    read: Callable[[Path, str], object]
    """Reads the folder, of which one file was damaged, and uses what it read."""
    seal: Callable[[Path, str], object] = lambda folder, place: None
    """Makes the sums again that stand above the damaged file."""
    refusals: Refusals = ()
    """What the reader's contract names beside the package's own exceptions."""
    share: int = 2
    """Of all inputs, beside other targets'."""
    anywhere: bool = False
    """Whether paths in it are the user's own, and may lead out of the folder."""
    replaced: bool = True
    """Whether something else may lie in the place of a file: the package opens it, not the test."""

    def input(self, good: Path, folder: Path, seed: int, number: int) -> str:
        """Make input ``number`` in ``folder`` from the good one; returns the damaged file's name.

        The same bytes for the same good input, seed and number.
        """
        place = sorted(self.places)[number % len(self.places)]
        shutil.copytree(good, folder, symlinks=True)
        chance = dice(seed, self.name, number)
        if self.replaced and chance.random() < _REPLACED:
            replace(folder / place, chance)
        else:
            damaged = self.places[place]((good / place).read_bytes(), chance)
            (folder / place).write_bytes(damaged)
            self.seal(folder, place)
        return place
