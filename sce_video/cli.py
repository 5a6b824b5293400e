"""``sce-video``: one verb a task. Nothing heavy is imported before a verb has its arguments."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from sce_video.arguments import did_you_mean, is_verbose
from sce_video.errors import EXIT_USAGE, run_command
from sce_video.terminal import note, say

PROG = "sce-video"

VERBS = {
    "demo": "the whole path on videos it makes itself, in minutes",
    "shard": "raw data set -> WebDataset shards",
    "train": "pretrain an encoder on shards, probe it, fine-tune it",
    "embed": "features of a shard set, extracted once and kept",
    "retrieve": "nearest videos of every query: R@k, mAP",
    "knn": "k-nearest-neighbour accuracy",
    "test": "accuracy of a finished classifier on its test list",
    "search": "the videos of a set that are nearest to one",
    "bench": "where the time goes on this machine",
    "export": "the encoder of a run, for this package or torchvision",
    "report": "one page of a run, or of several side by side",
    "configs": "the shipped configs, and every key with its meaning",
}
"""Verb, a module of :mod:`sce_video.commands`, -> its line in the help, in this order."""


def _help() -> list[str]:
    verbs = [f"  {name:<10} {about}" for name, about in VERBS.items()]
    about = "Learn video representations without labels."
    more = f"{PROG} VERB --help tells more; {PROG} --version the version."
    return [f"usage: {PROG} VERB [options]", "", about, "", *verbs, "", more]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _run(arguments), verbose=is_verbose(arguments))


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0].startswith("--local_rank="):  # the deepspeed launcher's
        arguments.pop(0)
    if not arguments or arguments[0] in ("-h", "--help"):
        say(*_help())
        return 0 if arguments else EXIT_USAGE
    if arguments[0] == "--version":
        from sce_video import __version__

        say(__version__)
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        note(f"{PROG}: unknown verb '{verb}'{did_you_mean(verb, VERBS)}")
        return EXIT_USAGE
    code: int = import_module(f"sce_video.commands.{verb}").main(rest, f"{PROG} {verb}")
    return code
