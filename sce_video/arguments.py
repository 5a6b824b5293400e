"""Command lines: a mistake is one line, with the nearest flag; numbers are checked."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
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
        command: Callable[[argparse.Namespace], None],
        *,
        quiet: bool = False,
    ) -> int:
        """Do ``command`` with what was read, ``-v`` too; the code of :func:`run_command`."""
        self.add_argument("-v", "--verbose", action="store_true", help="tracebacks on errors")
        args = self.parse_args(arguments)

        def run() -> int:
            command(args)
            return EXIT_OK

        return run_command(run, verbose=args.verbose, quiet=quiet)


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
