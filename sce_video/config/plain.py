"""What the values of a configuration may be before its sections look at them."""

from __future__ import annotations

import math

from sce_video.text import printable

_LONGEST = 4096  # characters of a text: of a path in Linux
_LARGEST = 1 << 63  # beyond it is what other libraries cannot count to
_SHOWN = 60  # characters of a value in a message
_LINE = 800  # characters of a message


def problem_of(value: object, where: str = "") -> str | None:
    """Why a value that YAML can hold is none of a configuration; None where it is.

    Plain values are null, numbers that are finite and fit 64 bits, text that a file system takes
    (no NUL, no half characters), lists of them and sections.

    Args:
        value: as YAML has it, of bounded depth.
        where: its dotted key.
    """
    inner: list[tuple[str, object]] = []
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str) or _wrong_text(key):
                return f"{_at(where)}{shown(key)} is no name of a key"
            inner.append((f"{where}.{key}" if where else key, part))
    elif isinstance(value, list):
        inner = [(f"{where}[{i}]", part) for i, part in enumerate(value)]
    elif wrong := _wrong(value):
        return f"{_at(where)}{wrong}"
    return next((problem for name, part in inner if (problem := problem_of(part, name))), None)


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _wrong(value: object) -> str | None:
    if isinstance(value, str):
        return _wrong_text(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else "the number must be finite"
    if isinstance(value, int):
        return None if abs(value) < _LARGEST else "the number has more than 64 bits"
    kind = type(value).__name__
    return None if value is None else f"no plain value but a {kind}; put text in quotes"


def _wrong_text(text: str) -> str | None:
    if len(text) > _LONGEST:
        return f"text of more than {_LONGEST} characters"
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return f"text with a NUL or half a character: {shown(text)}"
    return None


def shown(value: object) -> str:
    """A value as Python writes it, in a few characters of one line."""
    text = printable(repr(value) if not isinstance(value, str) else f"'{value[: 2 * _SHOWN]}'")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def shortened(line: str) -> str:
    """A message whose values may be of any length."""
    return line if len(line) <= _LINE else f"{line[:_LINE]}..."
