"""Values of JSON and YAML with something odd in them, written as no writer would write them."""

from __future__ import annotations

import json
from typing import Any

from tests.faults.mutators.dice import NUMBERS, PATHS, WORDS, Dice


class Raw(str):
    """Text that is written as it stands."""

    __slots__ = ()


class Pairs(list[tuple[Any, Any]]):
    """An object whose keys may be there twice."""


_DEEP = tuple(Raw(a * n + b * n) for n in (40, 400, 100_000) for a, b in ("[]", ('{"a":', "}")))
_SHAPES: tuple[Any, ...] = ([], {}, [[]], [None], {"": ""}, [0] * 3, {"a": {"a": {}}})
_PLAIN: tuple[Any, ...] = (None, True, False)

_Slot = tuple[Any, Any]
"""What holds a value, and its key or place there."""


def dump(value: Any) -> str:
    """As JSON, which most of YAML is, too."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict | Pairs):
        pairs = value.items() if isinstance(value, dict) else value
        return "{" + ", ".join(f"{_key(k)}: {dump(v)}" for k, v in pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(dump, value)) + "]"
    return json.dumps(value)


def _key(key: Any) -> str:
    return str(key) if isinstance(key, Raw) else json.dumps(str(key))


def change(value: Any, d: Dice, more: tuple[Any, ...] = ()) -> Any:
    """``value`` with one to three changes.

    Args:
        value: of JSON; it is changed in place.
        d: decides.
        more: odd values of this format.
    """
    for _ in range(d.choice((1, 1, 1, 2, 3))):
        slots = _slots(value)
        if not slots or d.random() < 0.03:
            return odd(value, d, more)
        holder, key = d.choice(slots)
        if isinstance(holder, list):
            holder[key] = odd(holder[key], d, more)
            continue
        kind = d.randrange(12)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            holder[d.choice((*WORDS, *PATHS))] = odd(holder[key], d, more)
        elif kind == 2:
            holder[d.choice((*WORDS, "name", "format"))] = holder.pop(key)
        elif kind == 3 and not any(isinstance(v, Pairs) for v in holder.values()):
            pairs = Pairs([*holder.items(), (key, odd(holder[key], d, more))])
            if holder is value:
                return pairs
            holder[key] = pairs
        else:
            holder[key] = odd(holder[key], d, more)
    return value


def odd(value: Any, d: Dice, more: tuple[Any, ...] = ()) -> Any:
    """Something in the place of ``value``: of its own type, or of another."""
    pools: list[tuple[Any, ...]] = [_PLAIN, _SHAPES, tuple(map(Raw, NUMBERS)), WORDS, PATHS]
    if more:
        pools += [more, more]
    if d.random() < 0.04:
        return d.choice(_DEEP)
    if d.random() < 0.5:
        if isinstance(value, str):
            return d.choice((*PATHS, *WORDS, value + d.choice(WORDS), value.upper(), value[:-1]))
        if isinstance(value, bool):
            return d.choice((not value, Raw("1"), "true", None))
        if isinstance(value, int | float):
            return d.choice((Raw(d.choice(NUMBERS)), str(value), -value, value + 0.5, [value]))
        if isinstance(value, list):
            return d.choice((value * 2, value[:-1], value[::-1], {"0": value}, [value], None))
        if isinstance(value, dict):
            return d.choice(([value], list(value), list(value.items()), None, {"": value}))
    chosen = d.choice(d.choice(pools))
    return json.loads(json.dumps(chosen)) if isinstance(chosen, list | dict) else chosen


def _slots(value: Any) -> list[_Slot]:
    """All places of values in a value."""
    found: list[_Slot] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, Pairs):
            continue
        keys = holder if isinstance(holder, dict) else range(len(holder))
        for key in list(keys) if isinstance(holder, dict | list) else ():
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found
