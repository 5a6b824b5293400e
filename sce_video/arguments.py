"""Command lines: a mistake is one line, with the nearest flag; numbers are checked."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sce_video.errors import EXIT_OK, EXIT_USAGE, UsageError, run_command
from sce_video.terminal import note, say

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class Parser(argparse.ArgumentParser):
    """Flags are written in full; a mistake ends the process with exit code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        _, _, unknown = message.partition("unrecognized arguments: ")
        flags = [word.partition("=")[0] for word in unknown.split() if word.startswith("-")]
        own = (a for a in self._actions if a.dest != "help" and a.help != argparse.SUPPRESS)
        known = [f.removeprefix("--") for a in own for f in a.option_strings if f[:2] == "--"]
        hint = did_you_mean(flags[0].lstrip("-"), known, "--") if flags else ""
        shown = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."
        note(f"{self.prog}: {shown}{hint} (--help tells more)")
        sys.exit(EXIT_USAGE)

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help; ``file`` is argparse's, which always leaves it out."""
        say(*self.format_help().splitlines())

    def run(
        self,
        arguments: Sequence[str] | None,
        command: Callable[[argparse.Namespace], int | None],
        *,
        quiet: bool = False,
        intermixed: bool = False,
    ) -> int:
        """Read the arguments, ``-v`` too, and do ``command`` with them.

        Args:
            arguments: None = those of the process.
            command: does the work; returns an exit code, or None for 0.
            quiet: print no errors (another rank does).
            intermixed: options may stand between positional arguments (``key=value``).

        Returns:
            The exit code, as :func:`run_command`. A wrong command line ends the process with 2.
        """
        self.add_argument("-v", "--verbose", action="store_true", help="tracebacks on errors")
        given = sys.argv[1:] if arguments is None else arguments
        parse = self.parse_intermixed_args if intermixed else self.parse_args

        def read_and_do() -> int:
            args = parse(given)
            _check_folder()
            return command(args) or EXIT_OK

        return run_command(read_and_do, verbose=is_verbose(given), quiet=quiet)


_LISTED = 12  # names in a line, at most
_LONGEST = 500  # characters of a message
_DIGITS = 20  # of a number, at most
MOST = 2**32 - 1
"""What a count has at most, if nothing else is said."""


def _check_folder() -> None:
    """Refuse to work in a folder that somebody deleted: some libraries would end the process.

    Raises:
        UsageError: so it is.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError("the current folder is not there any more; go to another") from error


def is_verbose(arguments: Sequence[str]) -> bool:
    """Whether ``-v`` is among the arguments, before they are read."""
    return not {"-v", "--verbose"}.isdisjoint(arguments)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of the ``known`` names that ``name`` is a slip or a short form of, if there is one.

    Args:
        name: as it was typed, in any case.
        known: names, without what all of them begin or end with: that would make all look alike.
    """
    folded, typed = {each.lower(): each for each in known}, name.lower()
    near = difflib.get_close_matches(typed, folded, n=1)
    if not near:  # k400 for kinetics400
        short = [each for each in folded if each[:1] == typed[:1] and _in_order(typed, each)]
        near = difflib.get_close_matches(typed, short, n=1, cutoff=0.0)
    return folded[near[0]] if near else None


def did_you_mean(name: str, known: Iterable[str], prefix: str = "", *, listed: bool = True) -> str:
    """``; did you mean 'X'?``, or where nothing is near ``; there are A, B, …``, of those first.

    Args:
        name: what is unknown, without ``prefix``.
        known: the names; without any nothing is said.
        prefix: what to show before each of them.
        listed: False where the message has the list already.
    """
    names = list(known)
    near = nearest(name, names)
    if near is not None:
        return f"; did you mean '{prefix}{near}'?"
    shown = [f"{prefix}{each}" for each in names[:_LISTED]] + ["…"] * (len(names) > _LISTED)
    return f"; there are {', '.join(shown)}" if names and listed else ""


def _in_order(short: str, long: str) -> bool:
    """Whether ``long`` has the letters of ``short`` in their order; of one letter, never."""
    letters = iter(long)
    return len(short) > 1 and all(letter in letters for letter in short)


def whole(least: int, most: int = MOST) -> Callable[[str], int]:
    """Type of an argument that is a whole number from ``least`` to ``most``."""
    wanted = (
        f"whole number of {least} or more"
        if most == MOST
        else f"whole number from {least} to {most}"
    )

    def parse(text: str) -> int:
        digits = text.removeprefix("-")
        number = digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS
        if not number or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"'{text[:_DIGITS]}' is no {wanted}")
        return int(text)

    return parse


def between(low: float, high: float) -> Callable[[str], float]:
    """Type of an argument that is a number from ``low`` to ``high``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            shown = f"'{text[:_DIGITS]}' is no number from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(shown)
        return value

    return parse
