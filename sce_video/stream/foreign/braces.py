"""Ranges such as ``{000..127}`` and lists such as ``{a,b}``: counted before they are built.

The expansion is :mod:`braceexpand`'s, which holds each range as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from braceexpand import braceexpand

from sce_video.errors import UsageError

MOST = 250_000
"""Names that one pattern, or a list of them, stands for at most; more is a slip."""
_BYTES = 1 << 27  # of all these names
_LONGEST = 4_096  # characters of a pattern, as of a path
_DEPTH = 8  # of braces in braces
_RANGE = re.compile(r"(-?\d+|[A-Za-z])\.\.(-?\d+|[A-Za-z])(?:\.\.-?(\d+))?")
_DIGITS = 18


def expand_braces(pattern: str) -> list[str]:
    """The names that ``pattern`` stands for, in their order.

    Raises:
        UsageError: a brace is not closed, the pattern is too long or nested too deeply, or there
            are more than :data:`MOST`.
    """
    if len(pattern) > _LONGEST:
        raise UsageError(f"{pattern[:80]}...: more than {_LONGEST:,} characters")
    depths = [0, *(depth for _, _, depth in _signs(pattern))]
    if min(depths) < 0 or depths[-1]:
        raise UsageError(f"{pattern}: a brace is not closed")
    if max(depths) > _DEPTH:
        raise UsageError(f"{pattern}: more than {_DEPTH} braces in braces")
    count = _count(pattern)
    if count > MOST:
        raise UsageError(f"{pattern}: more than {MOST:,} tars")
    if count * len(pattern) > _BYTES:
        raise UsageError(f"{pattern}: its {count:,} names are longer than {_BYTES:,} characters")
    return list(braceexpand(pattern))


def _signs(text: str) -> Iterator[tuple[int, str, int]]:
    """Place and sign of each ``{``, ``}`` and ``,``, with the depth behind it."""
    depth = 0
    for match in re.finditer(r"\\.|[{},]", text, re.DOTALL):
        if len(sign := match[0]) == 1:
            depth += {"{": 1, "}": -1, ",": 0}[sign]
            yield match.start(), sign, depth


def _count(text: str) -> int:
    """Names that a balanced pattern stands for: what its outermost braces stand for, multiplied."""
    total, begin = 1, 0
    for at, sign, depth in _signs(text):
        if sign == "{" and depth == 1:
            begin = at + 1
        elif sign == "}" and depth == 0:
            total *= _alternatives(text[begin:at])
    return total


def _alternatives(inside: str) -> int:
    """What one pair of braces stands for."""
    if match := _RANGE.fullmatch(inside):
        first, last, step = match.groups()
        if first.isalpha() or last.isalpha():
            return 52  # letters, at most
        if max(map(len, (first, last, step or ""))) > _DIGITS:
            return MOST + 1
        return abs(int(last) - int(first)) // (int(step or 1) or 1) + 1
    commas = [at for at, sign, depth in _signs(inside) if sign == "," and depth == 0]
    ends = zip([-1, *commas], [*commas, len(inside)], strict=True)
    return sum(_count(inside[before + 1 : at]) for before, at in ends)
