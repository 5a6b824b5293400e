"""Command lines of ``embed``, ``retrieve``, ``knn``, ``test`` and ``search``.

Nothing heavy is imported before the arguments are read.
"""

from __future__ import annotations

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sce_video.arguments import Parser, between, whole
from sce_video.engine.ranks import place
from sce_video.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from sce_video.engine.runtime import Runtime
    from sce_video.evals.bank import BankAndQueries
    from sce_video.evals.request import Request
    from sce_video.shardset.index import ShardIndex


def _parser(prog: str, about: str) -> Parser:
    """What all evaluations of a shard set take."""
    parser = Parser(prog=prog, description=about)
    add = parser.add_argument
    add("--clips", type=whole(1), default=10, help="clips a video (default 10)")
    add("--crops", type=int, choices=(1, 3), default=3, help="default 3")
    add("--size", type=whole(1), help="crop side (default 8/7 of the training size)")
    add("--workers", type=whole(0), default=2, help="decoding (default 2)")
    add("--strict", action="store_true", help="exit with 3 where a sample is missing")
    return parser


def _encoder_parser(prog: str, about: str) -> Parser:
    """What all evaluations of an encoder take."""
    parser = _parser(prog, about)
    add = parser.add_argument
    add(
        "--encoder",
        required=True,
        help="a run's folder, an encoder file, torchvision:NAME (fresh weights), "
        "torchvision:NAME=FILE, or a state dict of torchvision, pytorchvideo or eztorch",
    )
    add("--shards", required=True, help="shard set to evaluate on, folder or URL")
    add("--frames", type=whole(1), help="of a clip (default: as in training)")
    add("--seconds", type=between(1e-3, 1e4), help="span of a clip (default: as in training)")
    add("--seed", type=int, default=0, help="of fresh weights (default 0)")
    add("--out", type=Path, help="folder (default: beside the encoder)")
    return parser


def _run(
    parser: Parser, arguments: Sequence[str], verb: Callable[[Namespace, Runtime], None]
) -> int:
    """Run a verb as the rank that we are; only the main one prints errors."""

    def command(args: Namespace) -> None:
        from sce_video.engine.runtime import find_runtime
        from sce_video.engine.signals import watch_launcher

        watch_launcher()
        verb(args, find_runtime(args.workers if here.ranks > 1 else 0))

    here = place()
    return parser.run(arguments, command, quiet=here.rank > 0)


def _requests(
    args: Namespace,
    runtime: Runtime,
    splits: Callable[[ShardIndex], Sequence[str | None]],
) -> list[Request]:
    """What is to be extracted; that the encoder fits the set is checked."""
    from sce_video.stream.reader import open_set

    index = open_set(args.shards)
    wanted = splits(index)
    from sce_video.evals.request import Request
    from sce_video.evals.views import check_media, eval_views
    from sce_video.model.weights import open_encoder

    encoder = open_encoder(args.encoder, args.seed)
    given = {name: getattr(args, name) for name in ("frames", "seconds") if getattr(args, name)}
    spec = encoder.spec.model_copy(update=given)
    if index.images and given:
        raise UsageError(f"{index.name}: holds images: --frames and --seconds are for videos")
    check_media(index, spec, args.encoder, "; give --frames and --seconds to average over frames")
    if encoder.note and runtime.main:
        print(encoder.note, file=sys.stderr)
    views = eval_views(spec, args.clips, args.crops, args.size)
    return [
        Request(encoder, index, args.shards, split, views, runtime.device, args.workers)
        for split in wanted
    ]


def _missing(names: Sequence[str], what: str = "unreadable") -> str:
    """How many samples are missing, and the first of them; ``names`` may say why."""
    first = [name.partition(": ")[0] for name in names[:3]] + ["..."] * (len(names) > 3)
    return f"{len(names)} {what}" + (f" ({', '.join(first)})" if names else "")


def _check(args: Namespace, index: ShardIndex, missing: Sequence[str]) -> None:
    """Under ``--strict`` nothing may be missing, neither here nor when the set was made.

    Raises:
        VerificationError: something is.
    """
    if not args.strict:
        return
    from sce_video.shardset.manifest import listed

    lost = listed(index.manifest.rejected)
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    if missing or lost:
        reasons = ", ".join(f"{n} {why}" for why, n in lost.items())
        elsewhere = f"; not in the shards, see its rejects.csv: {reasons}" if lost else ""
        raise VerificationError(f"{index.name}: {len(missing)} samples unreadable{elsewhere}")


def embed(arguments: Sequence[str], prog: str) -> int:
    """``sce-video embed``; returns the exit code."""
    parser = _encoder_parser(prog, "Features of a shard set, extracted once and kept.")
    parser.add_argument("--split", help="e.g. train or split1:test (default: the whole set)")
    return _run(parser, arguments, _embed)


def _embed(args: Namespace, runtime: Runtime) -> None:
    requests = _requests(args, runtime, lambda _: [args.split])
    from sce_video.evals.embed import embed
    from sce_video.evals.kept import FEATURES_NAME, ROWS_NAME, read_features
    from sce_video.files import whole_file

    for folder in embed(requests, runtime) or ():
        found = read_features(folder, requests[0])
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            for name in (ROWS_NAME, FEATURES_NAME):
                with whole_file(args.out / name) as partial:
                    shutil.copyfile(folder / name, partial)
        count, width = found.values.shape
        print(f"{count} features of {width}, {_missing(found.missing_lines)}: ", end="")
        print((args.out or folder) / FEATURES_NAME)
        _check(args, requests[0].index, found.missing_lines)


def _lists_parser(prog: str, about: str) -> Parser:
    parser = _encoder_parser(prog, about)
    add = parser.add_argument
    add("--split", help="N: bank = split N's train list, queries = its test list")
    add("--bank", help="split of the bank, e.g. train or split1:train")
    add("--queries", help="split of the queries")
    parser.set_defaults(leave_one_out=None)
    return parser


def _extract(
    args: Namespace, runtime: Runtime, result: str, settings: Mapping[str, object]
) -> tuple[Path, BankAndQueries | None]:
    """The folder for results, and the features of bank and queries; None on other ranks.

    ``result`` is the path of the result beside the encoder; what is there may be of the same
    evaluation only.
    """
    alone = args.leave_one_out
    if (args.bank is None) != (args.queries is None):
        raise UsageError("--bank and --queries go together")
    if alone is not None and (args.split or args.bank):
        raise UsageError("--leave-one-out takes the place of --split, --bank and --queries")
    from sce_video.evals.bank import extract_lists, find_lists, lists_protocol
    from sce_video.evals.results import check_replaces

    def splits(index: ShardIndex) -> Sequence[str | None]:
        if alone is not None:
            return [alone or None]
        return find_lists(index, args.split, args.bank, args.queries)

    requests = _requests(args, runtime, splits)
    beside = requests[0].encoder.folder / result
    if not args.out:
        check_replaces(beside, {**lists_protocol(requests), **settings})
    return args.out or beside.parent, extract_lists(requests, runtime)


def retrieve(arguments: Sequence[str], prog: str) -> int:
    """``sce-video retrieve``; returns the exit code."""
    parser = _lists_parser(prog, "Nearest videos of every query: R@k and mAP.")
    return _run(parser, arguments, _retrieve)


def _retrieve(args: Namespace, runtime: Runtime) -> None:
    out, data = _extract(args, runtime, "retrieval/retrieval.json", {})
    if data is None:
        return
    from sce_video.evals.retrieval import RANKS, write_retrieval

    summary = write_retrieval(out, data)
    print(f"{summary['samples']} queries against {summary['bank_samples']} videos, ", end="")
    print(f"{_missing(data.missing)}: {out / 'retrieval.json'}")
    print("  ".join(f"R@{k} {summary[f'R@{k}']:.3f}" for k in RANKS), end="")
    print(f"  mAP {summary['mAP']:.3f}")
    _check(args, data.index, data.missing)


def knn(arguments: Sequence[str], prog: str) -> int:
    """``sce-video knn``; returns the exit code."""
    parser = _lists_parser(prog, "Weighted k-nearest-neighbour accuracy of frozen features.")
    about = "instead: each sample of SPLIT (default: of the set) against its others"
    add = parser.add_argument
    add("--leave-one-out", nargs="?", const="", metavar="SPLIT", help=about)
    add("--k", type=whole(1), default=20, help="neighbours (default 20)")
    add("--temp", type=between(1e-6, 1e6), default=0.07, help="of the votes (default 0.07)")
    return _run(parser, arguments, _knn)


def _knn(args: Namespace, runtime: Runtime) -> None:
    from sce_video.evals.knn import votes, write_knn

    out, data = _extract(args, runtime, "knn/knn.json", votes(args.k, args.temp))
    if data is None:
        return
    alone = args.leave_one_out is not None
    summary = write_knn(out, data, args.k, args.temp, leave_one_out=alone)
    print(f"kNN top-1 {summary['top1']:.3f} of {summary['samples']} queries, ", end="")
    print(f"{_missing(data.missing)}: {out / 'knn.json'}")
    _check(args, data.index, data.missing)


def test(arguments: Sequence[str], prog: str) -> int:
    """``sce-video test``; returns the exit code."""
    about = (
        "Accuracy of finished linear or finetune runs on their test lists, last weights, 10 x 3 "
        "views a video. Of several runs also mean and standard deviation."
    )
    parser = _parser(prog, about)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    add("--shards", help="the set, where it lies elsewhere than in training")
    add(
        "--split",
        help="N = test list of split N, or a split such as val (default: the test list beside the "
        "list trained on)",
    )
    add("--out", type=Path, help="default RUN/test; of several runs, where their mean is written")
    return _run(parser, arguments, _test)


def _test_requests(args: Namespace, runtime: Runtime) -> list[Request]:
    """What is to be scored; all of it is checked before hours of work."""
    if len({run.resolve() for run in args.runs}) < len(args.runs):
        raise UsageError("a run is given twice")
    from sce_video.evals.classification import open_test, test_protocol
    from sce_video.evals.request import Request
    from sce_video.evals.results import check_replaces
    from sce_video.evals.views import eval_views

    requests, several, first = [], len(args.runs) > 1, None
    for run in args.runs:
        classifier, index, split, task = open_test(run, args.shards, args.split)
        what = (task, index.manifest.dataset, index.manifest.classes)
        if first and what != first:
            others = f"{args.runs[0]} ({' on '.join(first[:2])})"
            raise UsageError(
                f"{run}: {task} on {what[1]} has no mean with {others}; test them one by one"
            )
        first = what
        views = eval_views(classifier.spec, args.clips, args.crops, args.size)
        where = (classifier, index, index.name, split, views, runtime.device, args.workers)
        requests.append(request := Request(*where, scores=True))
        if several or not args.out:
            hint = "move or " if several else "give --out, or "
            check_replaces(classifier.folder / "test/test.json", test_protocol(request), hint)
    return requests


def _test(args: Namespace, runtime: Runtime) -> None:
    requests = _test_requests(args, runtime)
    from sce_video.evals.classification import FIGURES, write_spread, write_test
    from sce_video.evals.embed import features_of

    if (found := features_of(requests, runtime)) is None:
        return
    results, several = [], len(requests) > 1
    for request, scores in zip(requests, found, strict=True):
        beside = request.encoder.folder / "test"
        out = beside if several else args.out or beside
        results.append(result := write_test(out, request, scores))
        figures = "  ".join(f"{name} {result[name]:.4f}" for name in FIGURES)
        print(f"{figures}  {request.split}: {result['samples']} samples, ", end="")
        print(f"{_missing(result['missing_samples'], 'missing')}: {out / 'test.json'}")
    if several:
        out = args.out or requests[0].encoder.folder / "test"
        spread = write_spread(results, out)
        means = (f"{n} {spread[n]['mean']:.4f} ± {spread[n]['std']:.4f}" for n in FIGURES)
        print(f"{'  '.join(means)}  mean of {len(results)} runs: {out / 'mean.json'}")
    for request, result in zip(requests, results, strict=True):
        _check(args, request.index, result["missing_samples"])


def search(arguments: Sequence[str], prog: str) -> int:
    """``sce-video search build|query``; returns the exit code."""
    about = "The samples of a set nearest to a video, an image or one of their own (FAISS)."
    asks = not arguments or arguments[0].startswith("-")
    parser = Parser(prog=prog, description=about, add_help=asks)
    parser.add_argument("what", choices=("build", "query"), help="each has --help of its own")
    args, rest = parser.parse_known_args(arguments)
    if args.what == "build":
        return _run(_build_parser(f"{prog} build"), rest, _build)
    return _query_parser(f"{prog} query").run(rest, _query)


def _build_parser(prog: str) -> Parser:
    parser = _encoder_parser(prog, "Index the features of a shard set's samples.")
    parser.add_argument("--split", help="such as train or split1:train (default: all samples)")
    parser.add_argument(
        "--kind",
        choices=("auto", "flat", "ivf"),
        default="auto",
        help="flat: exact; auto (default): flat below a million samples, else ivf",
    )
    return parser


def _build(args: Namespace, runtime: Runtime) -> None:
    from sce_video.evals.faiss_index import load_faiss

    load_faiss()  # missing? rather now than after hours
    [request] = _requests(args, runtime, lambda _: [args.split])
    from sce_video.evals.embed import features_of
    from sce_video.evals.search import build_index

    for found in features_of([request], runtime) or ():
        out = args.out or request.encoder.folder / "search"
        kind = None if args.kind == "auto" else args.kind
        done = build_index(out, request, found, kind)
        settings = "".join(f", {name} {value:g}" for name, value in done.settings.items())
        print(f"{done.samples} samples, {_missing(done.missing_samples)}: {out}")
        print(f"{done.kind}{' (exact)' if done.kind == 'flat' else settings}")
        _check(args, request.index, done.missing_samples)


def _query_parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="The nearest samples of an index, by cosine.")
    parser.add_argument("--index", type=Path, required=True, help="what search build left")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("file", nargs="?", type=Path, help="a video or an image")
    query.add_argument("--key", help="of a sample of the set; it does not find itself")
    parser.add_argument("--top", type=whole(1), default=10, help="how many (default 10)")
    parser.add_argument("--encoder", help="where the index's encoder lies now")
    parser.add_argument("--shards", help="where the index's set lies now")
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
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    for line in found:
        start = f"{line['rank']:>3}  {line['score']:.4f}  {line['class'] or '-':<24}"
        print(f"{start}  {line['shard']}/{line['key']}  {line['path']}")
