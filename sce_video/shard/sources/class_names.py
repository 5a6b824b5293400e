"""Names of classes as lists, folders and people spell them."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from pathlib import Path

from sce_video.errors import UsageError


class ClassNames:
    """Class names, found by their letters and digits."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = frozenset(names)
        self._same: dict[str, list[str]] = {}
        for name in sorted(names):
            self._same.setdefault(_letters(name), []).append(name)

    def find(self, name: str, where: str | Path) -> str | None:
        """The class that ``name`` means; ``where`` it stands is for messages.

        Raises:
            UsageError: several may be meant.
        """
        same = self._same.get(_letters(name), [])
        if name in same:
            return name
        if len(same) > 1:
            raise UsageError(f"{where}: '{name}' may be {' or '.join(map(repr, same))}; rename it")
        return same[0] if same else None

    def alike(self) -> list[str]:
        """Names that only differ in other characters than letters and digits, if there are any."""
        return next((same for same in self._same.values() if len(same) > 1), [])


def _letters(name: str) -> str:
    """What two spellings of a class have in common; a name without letters and digits is itself."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(character for character in plain if character.isalnum()) or name
