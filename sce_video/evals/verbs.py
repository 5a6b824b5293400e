"""Command lines of ``test`` and ``search``; nothing heavy is imported before they are read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from sce_video.arguments import Parser, whole
from sce_video.errors import UsageError, VerificationError, run_command


def _add_views(parser: Parser) -> None:
    parser.add_argument("--clips", type=whole(1), default=10, help="clips a video (default 10)")
    parser.add_argument("--crops", type=int, choices=(1, 3), default=3, help="default 3")
    parser.add_argument("--size", type=whole(1), help="crop side (default 8/7 of training's)")
    parser.add_argument("--workers", type=whole(0), default=2, help="decoding (default 2)")


def main_of_test(arguments: Sequence[str], prog: str) -> int:
    """``sce-video test``; returns the exit code."""
    parser = Parser(
        prog=prog,
        description="Accuracy of finished linear or finetune runs on their test lists, last "
        "weights, 10 x 3 views a video. Of several runs also mean and standard deviation.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--shards", help="the set, where it lies elsewhere than in training")
    parser.add_argument(
        "--split",
        help="N = test list of split N, or a split such as val (default: the test list beside the "
        "list trained on)",
    )
    _add_views(parser)
    parser.add_argument(
        "--out", type=Path, help="default RUN/test; of several runs, where their mean is written"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 3 if samples are missing")
    parser.add_argument("-v", "--verbose", action="store_true", help="tracebacks on errors")
    args = parser.parse_args(arguments)
    return run_command(lambda: _test(args), verbose=args.verbose)


def _test(args: argparse.Namespace) -> int:
    if len({run.resolve() for run in args.runs}) < len(args.runs):
        raise UsageError("a run is given twice")
    from sce_video.evals.testing import FIGURES, Options, open_test, run_test, write_spread

    options = Options(args.shards, args.split, args.clips, args.crops, args.size, args.workers)
    tests = [open_test(run, options) for run in args.runs]  # all of them before hours of work
    results, several = [], len(tests) > 1
    for test in tests:
        out = test.run / "test" if several or args.out is None else args.out
        results.append(run_test(test, out))
        figures = "  ".join(f"{name} {results[-1][name]:.4f}" for name in FIGURES)
        print(f"{figures}  {test.split}: {results[-1]['samples']} samples, ", end="")
        print(f"{results[-1]['missing']} missing: {out / 'test.json'}", flush=True)
    if several:
        out = args.out or tests[0].run / "test"
        spread = write_spread(results, out)
        means = (f"{n} {spread[n]['mean']:.4f} ± {spread[n]['std']:.4f}" for n in FIGURES)
        print(f"{'  '.join(means)}  mean of {len(tests)} runs: {out / 'mean.json'}")
    missing = sum(result["missing"] for result in results)
    if args.strict and missing:
        raise VerificationError(
            f"{missing} samples could not be read (--strict); test.json names them"
        )
    return 0


def main_of_search(arguments: Sequence[str], prog: str) -> int:
    """``sce-video search build|query``; returns the exit code."""
    about = (
        "The samples of a set that are nearest to a video, an image or one of their own (FAISS)."
    )
    parser = Parser(
        prog=prog, description=about, add_help=not arguments or arguments[0].startswith("-")
    )
    parser.add_argument("what", choices=("build", "query"), help="each has --help of its own")
    args, rest = parser.parse_known_args(arguments)
    make, command = {"build": (_build_parser, _build), "query": (_query_parser, _query)}[args.what]
    chosen = make(f"{prog} {args.what}").parse_args(rest)
    return run_command(lambda: command(chosen), verbose=chosen.verbose)


def _build_parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="Index the features of a shard set's samples.")
    parser.add_argument("--encoder", type=Path, required=True, help="a run, or its encoder")
    parser.add_argument("--shards", required=True, help="the set, folder or URL")
    parser.add_argument("--split", help="such as train or split1:train (default: all samples)")
    parser.add_argument(
        "--kind",
        choices=("auto", "flat", "ivf", "hnsw"),
        default="auto",
        help="flat: exact; auto (default): flat below a million samples, else ivf",
    )
    _add_views(parser)
    parser.add_argument("--out", type=Path, help="default: search beside the encoder")
    parser.add_argument("-v", "--verbose", action="store_true", help="tracebacks on errors")
    return parser


def _build(args: argparse.Namespace) -> int:
    from sce_video.evals.search import BuildRequest, build_index

    beside = args.encoder if args.encoder.is_dir() else args.encoder.parent
    out = args.out or beside / "search"
    kind = None if args.kind == "auto" else args.kind
    request = BuildRequest(
        args.encoder, args.shards, args.split, kind, args.clips, args.crops, args.size, args.workers
    )
    done = build_index(request, out)
    settings = "".join(f", {name} {value:g}" for name, value in done.settings.items())
    print(f"{done.samples} samples, {len(done.missing_samples)} unreadable: {out}")
    print(f"{done.kind}{' (exact)' if done.kind == 'flat' else settings}")
    return 0


def _query_parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="The nearest samples of an index, by cosine.")
    parser.add_argument("--index", type=Path, required=True, help="what search build left")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("file", nargs="?", type=Path, help="a video or an image")
    query.add_argument("--key", help="of a sample of the set; it does not find itself")
    parser.add_argument("--top", type=whole(1), default=10, help="how many (default 10)")
    parser.add_argument("--encoder", type=Path, help="where the index's encoder lies now")
    parser.add_argument("--shards", help="where the index's set lies now")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("-v", "--verbose", action="store_true", help="tracebacks on errors")
    return parser


def _query(args: argparse.Namespace) -> int:
    from sce_video.evals.search import SearchIndex

    index = SearchIndex.open(args.index)
    if args.key is None:
        found = index.query_file(args.file, args.encoder, args.top)
    else:
        found = index.query_key(args.key, args.encoder, args.shards, args.top)
    if args.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    for line in found:
        start = f"{line['rank']:>3}  {line['score']:.4f}  {line['class'] or '-':<24}"
        print(f"{start}  {line['shard']}/{line['key']}  {line['path']}")
    return 0
