"""``sce-video``: one verb a task. Nothing heavy is imported before a verb has its arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sce_video.arguments import Parser, between, whole
from sce_video.errors import EXIT_USAGE, run_command

PROG = "sce-video"


def _shard(arguments: Sequence[str]) -> int:
    from sce_video.shard.__main__ import main as shard

    return shard(arguments, prog=f"{PROG} shard")


def _train(arguments: Sequence[str]) -> int:
    from sce_video.train import main as train

    return train(arguments, prog=f"{PROG} train")


def _eval_parser(verb: str, about: str) -> Parser:
    parser = Parser(prog=f"{PROG} {verb}", description=about)
    parser.add_argument(
        "--encoder", type=Path, required=True, help="a run's folder, or its encoder"
    )
    parser.add_argument("--shards", required=True, help="shard set to evaluate on, folder or URL")
    parser.add_argument("--split", help="N: bank = split N's train list, queries = its test list")
    parser.add_argument("--bank", help="split of the bank, e.g. train or split1:train")
    parser.add_argument("--queries", help="split of the queries")
    parser.add_argument("--clips", type=whole(1), default=10, help="clips a video (default 10)")
    parser.add_argument("--crops", type=int, choices=(1, 3), default=3, help="default 3")
    parser.add_argument(
        "--size", type=whole(1), help="crop side (default 8/7 of the training size)"
    )
    parser.add_argument("--workers", type=whole(0), default=2, help="decoding (default 2)")
    parser.add_argument("--out", type=Path, help=f"default: {verb} beside the encoder")
    parser.add_argument("-v", "--verbose", action="store_true", help="tracebacks on errors")
    return parser


def _request(args: argparse.Namespace) -> Any:
    """The evaluation that the arguments ask for."""
    from sce_video.errors import UsageError
    from sce_video.stream.shards import open_set

    if (args.bank is None) != (args.queries is None):
        raise UsageError("--bank and --queries go together")
    index = open_set(args.shards)
    from sce_video.evals.commands import EvalRequest, bank_and_queries

    bank, queries = args.bank, args.queries
    if bank is None:
        bank, queries = bank_and_queries(index, args.split)
    for split in (bank, queries):
        index.rows(split)
    return EvalRequest(
        encoder=args.encoder,
        shards=args.shards,
        bank=bank,
        queries=queries,
        clips=args.clips,
        crops=args.crops,
        size=args.size,
        workers=args.workers,
    )


def _out(args: argparse.Namespace, verb: str) -> Path:
    if args.out:
        return Path(args.out)
    encoder = Path(args.encoder)
    return (encoder if encoder.is_dir() else encoder.parent) / verb


def _retrieve(arguments: Sequence[str]) -> int:
    parser = _eval_parser("retrieval", "Nearest videos of every query: R@k and mAP.")
    parser.prog = f"{PROG} retrieve"
    args = parser.parse_args(arguments)

    def command() -> int:
        request = _request(args)
        from sce_video.evals.commands import run_retrieval
        from sce_video.evals.retrieval import RANKS

        out = _out(args, "retrieval")
        summary = run_retrieval(request, out)
        print(f"{summary['samples']} queries against {summary['bank_samples']} videos, ", end="")
        print(f"{summary['missing']} unreadable: {out / 'retrieval.json'}")
        print("  ".join(f"R@{k} {summary[f'R@{k}']:.3f}" for k in RANKS), end="")
        print(f"  mAP {summary['mAP']:.3f}")
        return 0

    return run_command(command, verbose=args.verbose)


def _knn(arguments: Sequence[str]) -> int:
    parser = _eval_parser("knn", "Weighted k-nearest-neighbour accuracy of frozen features.")
    parser.add_argument("--k", type=whole(1), default=20, help="neighbours (default 20)")
    parser.add_argument(
        "--temp", type=between(1e-6, 1e6), default=0.07, help="of the votes (default 0.07)"
    )
    args = parser.parse_args(arguments)

    def command() -> int:
        request = _request(args)
        from sce_video.evals.commands import run_knn

        out = _out(args, "knn")
        summary = run_knn(request, out, args.k, args.temp)
        print(
            f"kNN top-1 {summary['top1']:.3f} of {summary['samples']} queries: {out / 'knn.json'}"
        )
        return 0

    return run_command(command, verbose=args.verbose)


def _report(arguments: Sequence[str]) -> int:
    parser = Parser(
        prog=f"{PROG} report", description="Write RUN/report.html: curves, tables, gallery."
    )
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("-v", "--verbose", action="store_true", help="tracebacks on errors")
    args = parser.parse_args(arguments)

    def command() -> int:
        from sce_video.report import write_report

        print(write_report(args.run))
        return 0

    return run_command(command, verbose=args.verbose)


def _export(arguments: Sequence[str]) -> int:
    parser = Parser(
        prog=f"{PROG} export",
        description="Write the encoder of a run, also of one that was stopped.",
    )
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
    parser.add_argument("-v", "--verbose", action="store_true", help="tracebacks on errors")
    args = parser.parse_args(arguments)

    def command() -> int:
        from sce_video.export import export_encoder

        path = export_encoder(
            args.run,
            args.out,
            checkpoint=args.checkpoint,
            branch=args.branch,
            library=None if args.format == "encoder" else args.format,
        )
        print(path)
        return 0

    return run_command(command, verbose=args.verbose)


def _demo(arguments: Sequence[str]) -> int:
    from sce_video.demo import main as demo

    return demo(arguments, prog=f"{PROG} demo")


def _bench(arguments: Sequence[str]) -> int:
    from sce_video.bench import main as bench

    return bench(arguments, prog=f"{PROG} bench")


VERBS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "demo": ("the whole path on videos it makes itself, in minutes", _demo),
    "shard": ("raw data set -> WebDataset shards", _shard),
    "train": ("pretrain an encoder on shards, probe it, fine-tune it", _train),
    "retrieve": ("nearest videos of every query: R@k, mAP", _retrieve),
    "knn": ("k-nearest-neighbour accuracy", _knn),
    "bench": ("where the time goes on this machine", _bench),
    "export": ("the encoder of a run, for this package or torchvision", _export),
    "report": ("one page of a run: curves, tables, gallery", _report),
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
    return VERBS[verb][1](rest)
