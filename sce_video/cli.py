"""``sce-video``: one verb a task. Nothing heavy is imported before a verb has its arguments."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from sce_video.errors import EXIT_USAGE

PROG = "sce-video"

VERBS = (
    "demo",
    "shard",
    "train",
    "embed",
    "retrieve",
    "knn",
    "test",
    "search",
    "bench",
    "export",
    "report",
    "configs",
)
"""In the order of the help; each is a module of :mod:`sce_video.commands`."""


def _verb(name: str) -> Any:
    return import_module(f"sce_video.commands.{name}")


def _help() -> str:
    verbs = "\n".join(f"  {name:<10} {_verb(name).ABOUT}" for name in VERBS)
    return (
        f"usage: {PROG} VERB [options]\n\n"
        "Learn video representations without labels.\n\n"
        f"{verbs}\n\n{PROG} VERB --help tells more; {PROG} --version the version."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0].startswith("--local_rank="):  # the deepspeed launcher's
        arguments.pop(0)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else EXIT_USAGE
    if arguments[0] == "--version":
        from sce_video import __version__

        print(__version__)
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.0)[0]
        print(f"{PROG}: unknown verb '{verb}'; did you mean '{near}'?", file=sys.stderr)
        return EXIT_USAGE
    code: int = _verb(verb).main(rest, f"{PROG} {verb}")
    return code
