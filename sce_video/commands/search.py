"""``sce-video search``: an index of a set, and questions to it."""

from __future__ import annotations

from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

from sce_video.arguments import Parser, whole
from sce_video.commands import evaluation
from sce_video.terminal import say
from sce_video.text import json_text


def main(arguments: list[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    about = "The samples of a set nearest to a video, an image or one of their own (FAISS)."
    asks = not arguments or arguments[0].startswith("-")
    parser = Parser(prog=prog, description=about, add_help=asks)
    parser.add_argument("what", choices=("build", "query"), help="each has --help of its own")
    args, rest = parser.parse_known_args(arguments)
    if args.what == "build":
        return evaluation.run_as_rank(_build_parser(f"{prog} build"), rest, _build)
    return _query_parser(f"{prog} query").run(rest, _query)


def _build_parser(prog: str) -> Parser:
    parser = evaluation.encoder_parser(prog, "Index the features of a shard set's samples.")
    parser.add_argument("--split", help="such as train or split1:train (default: all samples)")
    parser.add_argument(
        "--kind",
        choices=("auto", "flat", "ivf"),
        default="auto",
        help="flat: exact; auto (default): flat below a million samples, else ivf",
    )
    return parser


def _build(args: Namespace) -> None:
    from sce_video.evals.faiss_index import load_faiss

    load_faiss()  # missing? rather now than after hours
    [request] = evaluation.find_requests(args, lambda _: [args.split])
    from sce_video.evals.embed import features_of
    from sce_video.evals.search import build_index
    from sce_video.lock import LOCK_NAME, Lock

    out = args.out or request.encoder.folder / "search"
    kind = None if args.kind == "auto" else args.kind
    with Lock(out / LOCK_NAME) if args.runtime.main else nullcontext():
        features = features_of([request], args.runtime)
        built = [build_index(out, request, found, kind) for found in features or ()]
    for done in built:
        settings = "".join(f", {name} {value:g}" for name, value in done.settings.items())
        say(f"{done.samples} samples, {evaluation.count_missing(done.missing_samples)}: {out}")
        say(f"{done.kind}{' (exact)' if done.kind == 'flat' else settings}")
        evaluation.check_complete(args, request.index, done.missing_samples)


def _query_parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="The nearest samples of an index, by cosine.")
    parser.add_argument("--index", type=Path, required=True, help="what search build left")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("file", nargs="?", type=Path, help="a video or an image")
    query.add_argument("--key", help="of a sample of the set; it does not find itself")
    parser.add_argument("--top", type=whole(1), default=10, help="how many (default 10)")
    parser.add_argument("--encoder", help="where the index's encoder lies now")
    parser.add_argument("--shards", help="where the index's set lies now, folder or URL")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _query(args: Namespace) -> None:
    from sce_video.evals.search import SearchIndex

    index = SearchIndex.open(args.index)
    if args.key is None:
        found = index.query_file(args.file, args.encoder, args.top)
    else:
        found = index.query_key(args.key, args.encoder, args.shards, args.top)
    if args.json:
        say(*json_text(found, indent=1).splitlines())
        return
    for line in found:
        start = f"{line['rank']:>3}  {line['score']:.4f}  {line['class'] or '-':<24}"
        say(f"{start}  {line['shard']}/{line['key']}  {line['path']}")
