"""Text of others, made fit to be shown: on a terminal, in a log line, in a cell of a sheet."""

from __future__ import annotations

import json
import shlex
import unicodedata

_ESCAPED = {"Cc", "Cs", "Zl", "Zp"}  # controls, lone surrogates, separators of lines, paragraphs
_TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""What turns the direction of text, so that a name can read as another."""
_FORMULA = "=+-@\t\r"
"""First characters that make sheets take a cell for a formula."""


def printable(text: str) -> str:
    r"""``text`` in one line, without what a terminal acts upon.

    Controls, ends of lines and what turns the direction of text become ``\n``, ``\x1b``,
    ``\u202e`` and so on; bytes of a name that are not UTF-8 become ``\xff``.
    """
    return _written_out(text, _TURNS)


def one_line(text: str) -> str:
    r"""``text`` as a name that is kept: in one line of UTF-8, without controls.

    They are written out as in :func:`printable`; what turns the direction of text stays, as names
    in Arabic and Hebrew hold it.
    """
    return _written_out(text, "")


def _written_out(text: str, also: str) -> str:
    if text.isprintable():
        return text
    odd = (unicodedata.category(c) in _ESCAPED or c in also for c in text)
    return "".join(_escaped(c) if is_odd else c for c, is_odd in zip(text, odd, strict=True))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # as the system gives a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def cell(text: str) -> str:
    """``text`` as a cell of a CSV file: printable, and no formula in any sheet.

    One that begins like a formula gets a ``'`` before it, as sheets themselves write text.
    """
    shown = printable(text)
    return f"'{shown}" if text[:1] in _FORMULA and text else shown


def json_text(value: object, *, indent: int | None = None) -> str:
    """``value`` as JSON to be shown: ASCII, so that no name in it acts upon a terminal."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def shell_word(text: str) -> str:
    """``text`` as a word of a command that is shown to be copied: one line, in any shell of today.

    What :func:`printable` would escape stands in ``$'...'``, in octal.
    """
    if printable(text) == text:
        return shlex.quote(text)
    return f"$'{''.join(_octal(character) for character in text)}'"


def _octal(character: str) -> str:
    if character not in "\\'" and printable(character) == character:
        return character
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", errors))
