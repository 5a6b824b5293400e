"""``sce-video``: one verb a task. Nothing heavy is imported before a verb has its arguments."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from sce_video.arguments import Parser
from sce_video.errors import EXIT_USAGE

PROG = "sce-video"


Verb = Callable[[Sequence[str], str], int]
"""(arguments, name of the command) -> exit code."""


def _in(module: str, name: str = "main") -> Verb:
    """The verb that a module of ours has; imported when it is run."""

    def run(arguments: Sequence[str], prog: str) -> int:
        verb: Verb = getattr(import_module(f"sce_video.{module}"), name)
        return verb(arguments, prog)

    return run


def _report(arguments: Sequence[str], prog: str) -> int:
    about = "Write a page about a run, or several side by side: curves, tables, gallery."
    parser = Parser(prog=prog, description=about)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--out", type=Path, help="file (default: RUN/report.html; of several: report.html here)"
    )

    def command(args: Namespace) -> None:
        from sce_video.report import write_report

        print(write_report(args.runs, args.out))

    return parser.run(arguments, command)


def _export(arguments: Sequence[str], prog: str) -> int:
    about = "Write the encoder of a run, also of one that was stopped."
    parser = Parser(prog=prog, description=about)
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("--checkpoint", metavar="step-XXXXXXXX", help="default: the newest")
    parser.add_argument(
        "--branch", choices=("online", "momentum"), default="online", help="default online"
    )
    parser.add_argument(
        "--format",
        choices=("encoder", "torchvision", "pytorchvideo"),
        default="encoder",
        help="encoder: safetensors for sce_video.load_encoder (default); else a .pth that the "
        "library's own network loads strictly",
    )
    parser.add_argument("--out", type=Path, help="file or folder (default: the run's)")

    def command(args: Namespace) -> None:
        from sce_video.export import export_encoder

        library = None if args.format == "encoder" else args.format
        options = {"checkpoint": args.checkpoint, "branch": args.branch, "library": library}
        print(export_encoder(args.run, args.out, **options))

    return parser.run(arguments, command)


VERBS: dict[str, tuple[str, Verb]] = {
    "demo": ("the whole path on videos it makes itself, in minutes", _in("demo")),
    "shard": ("raw data set -> WebDataset shards", _in("shard.__main__")),
    "train": ("pretrain an encoder on shards, probe it, fine-tune it", _in("train")),
    "embed": ("features of a shard set, extracted once and kept", _in("evals.commands", "embed")),
    "retrieve": ("nearest videos of every query: R@k, mAP", _in("evals.commands", "retrieve")),
    "knn": ("k-nearest-neighbour accuracy", _in("evals.commands", "knn")),
    "test": ("accuracy of a finished classifier on its test list", _in("evals.commands", "test")),
    "search": ("the videos of a set that are nearest to one", _in("evals.commands", "search")),
    "bench": ("where the time goes on this machine", _in("bench")),
    "export": ("the encoder of a run, for this package or torchvision", _export),
    "report": ("one page of a run, or of several side by side", _report),
}
"""Verb -> what it does, and how it is run with the arguments after it."""


def _help() -> str:
    verbs = "\n".join(f"  {verb:<10} {about}" for verb, (about, _) in VERBS.items())
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
        import difflib

        near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.0)[0]
        print(f"{PROG}: unknown verb '{verb}'; did you mean '{near}'?", file=sys.stderr)
        return EXIT_USAGE
    return VERBS[verb][1](rest, f"{PROG} {verb}")
