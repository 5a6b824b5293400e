"""Command lines: a mistake is one line, with the nearest flag; numbers are checked."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from sce_video.errors import EXIT_OK, EXIT_USAGE, run_command


class Parser(argparse.ArgumentParser):
    """Flags are written in full; a mistake ends the process with exit code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        _, _, unknown = message.partition("unrecognized arguments: ")
        flag = unknown.partition(" ")[0].partition("=")[0]
        near = difflib.get_close_matches(flag, self._option_string_actions, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"{self.prog}: {message}{hint} (--help tells more)", file=sys.stderr)
        sys.exit(EXIT_USAGE)

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
        args = (self.parse_intermixed_args if intermixed else self.parse_args)(arguments)
        return run_command(lambda: command(args) or EXIT_OK, verbose=args.verbose, quiet=quiet)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'X'?``: the nearest of the ``known`` names; nothing where there are none."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"; did you mean '{near[0]}'?" if near else ""


def whole(least: int) -> Callable[[str], int]:
    """Type of an argument that is a whole number of at least ``least``."""

    def parse(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number of {least} or more")
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
            raise argparse.ArgumentTypeError(f"'{text}' is no number from {low:g} to {high:g}")
        return value

    return parse
