"""``embed``, ``retrieve`` and ``knn``. Nothing heavy is imported before the arguments are read."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sce_video.arguments import Parser, between, whole
from sce_video.errors import UsageError, VerificationError, run_command

if TYPE_CHECKING:
    from sce_video.engine.runtime import Runtime
    from sce_video.evals.embed import Request
    from sce_video.evals.results import Extracted
    from sce_video.shard.format import ShardIndex

_NO_LOSS = ("unlisted", "replaced")  # reasons of rejects.csv that take nothing from a list


def eval_parser(prog: str, about: str) -> Parser:
    """What all evaluations of an encoder on a shard set take."""
    parser = Parser(prog=prog, description=about)
    parser.add_argument(
        "--encoder",
        required=True,
        help="a run's folder, an encoder file, torchvision:NAME (fresh weights), "
        "torchvision:NAME=FILE, or a state dict of torchvision, pytorchvideo or eztorch",
    )
    parser.add_argument("--shards", required=True, help="shard set to evaluate on, folder or URL")
    parser.add_argument("--clips", type=whole(1), default=10, help="clips a video (default 10)")
    parser.add_argument("--crops", type=int, choices=(1, 3), default=3, help="default 3")
    parser.add_argument(
        "--size", type=whole(1), help="crop side (default 8/7 of the training size)"
    )
    parser.add_argument("--frames", type=whole(1), help="of a clip (default: as in training)")
    parser.add_argument(
        "--seconds", type=between(1e-3, 1e4), help="span of a clip (default: as in training)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of fresh weights (default 0)")
    parser.add_argument("--workers", type=whole(0), default=2, help="decoding (default 2)")
    parser.add_argument("--out", type=Path, help="folder (default: beside the encoder)")
    parser.add_argument(
        "--strict", action="store_true", help="exit with 3 where a sample is missing"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="tracebacks on errors")
    return parser


def embed_main(arguments: Sequence[str], prog: str) -> int:
    """``sce-video embed``; returns the exit code."""
    parser = eval_parser(prog, "Features of a shard set, extracted once and kept.")
    parser.add_argument("--split", help="e.g. train or split1:test (default: the whole set)")
    args = parser.parse_args(arguments)

    def command(runtime: Runtime) -> None:
        [request] = _requests(args, runtime, lambda _: [args.split])
        from sce_video.evals.embed import FEATURES_NAME, ROWS_NAME, embed, read_features

        folders = embed([request], runtime)
        if folders is None:
            return
        [folder] = folders
        found = read_features(folder, request)
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            for name in (ROWS_NAME, FEATURES_NAME):
                shutil.copyfile(folder / name, args.out / f"{name}.tmp")
                (args.out / f"{name}.tmp").replace(args.out / name)
        count, width = found.values.shape
        print(f"{count} features of {width}, {len(found.missing)} unreadable: ", end="")
        print((args.out or folder) / FEATURES_NAME)
        _check(args, request.index, [f"{name}: {why}" for name, why in found.missing])

    return _run(args, command)


def retrieve_main(arguments: Sequence[str], prog: str) -> int:
    """``sce-video retrieve``; returns the exit code."""
    parser = eval_parser(prog, "Nearest videos of every query: R@k and mAP.")
    _add_lists(parser)
    args = parser.parse_args(arguments)

    def command(runtime: Runtime) -> None:
        out, data = _extract(args, runtime, "retrieval")
        if data is None:
            return
        from sce_video.evals.results import write_retrieval
        from sce_video.evals.retrieval import RANKS

        summary = write_retrieval(out, data)
        print(f"{summary['samples']} queries against {summary['bank_samples']} videos, ", end="")
        print(f"{summary['missing']} unreadable: {out / 'retrieval.json'}")
        print("  ".join(f"R@{k} {summary[f'R@{k}']:.3f}" for k in RANKS), end="")
        print(f"  mAP {summary['mAP']:.3f}")
        _check(args, data.index, data.missing)

    return _run(args, command)


def knn_main(arguments: Sequence[str], prog: str) -> int:
    """``sce-video knn``; returns the exit code."""
    parser = eval_parser(prog, "Weighted k-nearest-neighbour accuracy of frozen features.")
    _add_lists(parser)
    parser.add_argument(
        "--leave-one-out",
        nargs="?",
        const="",
        metavar="SPLIT",
        help="instead: each sample of SPLIT (default: of the set) against its others",
    )
    parser.add_argument("--k", type=whole(1), default=20, help="neighbours (default 20)")
    parser.add_argument(
        "--temp", type=between(1e-6, 1e6), default=0.07, help="of the votes (default 0.07)"
    )
    args = parser.parse_args(arguments)
    alone = args.leave_one_out is not None

    def command(runtime: Runtime) -> None:
        out, data = _extract(args, runtime, "knn", args.leave_one_out)
        if data is None:
            return
        from sce_video.evals.results import write_knn

        summary = write_knn(out, data, args.k, args.temp, leave_one_out=alone)
        print(
            f"kNN top-1 {summary['top1']:.3f} of {summary['samples']} queries: {out / 'knn.json'}"
        )
        _check(args, data.index, data.missing)

    return _run(args, command)


def _add_lists(parser: Parser) -> None:
    parser.add_argument("--split", help="N: bank = split N's train list, queries = its test list")
    parser.add_argument("--bank", help="split of the bank, e.g. train or split1:train")
    parser.add_argument("--queries", help="split of the queries")


def _run(args: argparse.Namespace, command: Callable[[Runtime], None]) -> int:
    """Run a verb as the rank that we are; only the main one prints errors."""
    quiet = int(os.environ.get("RANK", "0")) > 0

    def run() -> int:
        from sce_video.engine.runtime import find_runtime
        from sce_video.engine.signals import watch_launcher

        watch_launcher()
        ranks = int(os.environ.get("WORLD_SIZE", "1"))
        command(find_runtime(args.workers if ranks > 1 else 0))
        return 0

    return run_command(run, verbose=args.verbose, quiet=quiet)


def _requests(
    args: argparse.Namespace,
    runtime: Runtime,
    splits: Callable[[ShardIndex], Sequence[str | None]],
) -> list[Request]:
    """What is to be extracted, checked: splits, encoder, and that it fits the set."""
    from sce_video.stream.shards import open_set

    index = open_set(args.shards)
    wanted = splits(index)
    for split in wanted:
        index.rows(split)
    from sce_video.evals.embed import Request
    from sce_video.evals.views import eval_views
    from sce_video.model.foreign import open_encoder

    encoder = open_encoder(args.encoder, args.seed)
    given = {name: getattr(args, name) for name in ("frames", "seconds") if getattr(args, name)}
    spec = encoder.spec.model_copy(update=given)
    if index.images and given:
        raise UsageError(f"{index.name}: holds images: --frames and --seconds are for videos")
    if index.images != (spec.seconds == 0):
        has, wants = ("images", "clips") if index.images else ("videos", "images")
        hint = "" if index.images else "; give --frames and --seconds to average over frames"
        raise UsageError(f"{index.name}: holds {has}; {args.encoder} was trained on {wants}{hint}")
    if encoder.note and runtime.main:
        print(encoder.note, file=sys.stderr)
    views = eval_views(spec, args.clips, args.crops, args.size)
    return [
        Request(encoder, index, args.shards, split, views, runtime.device, args.workers)
        for split in wanted
    ]


def _extract(
    args: argparse.Namespace, runtime: Runtime, verb: str, alone: str | None = None
) -> tuple[Path, Extracted | None]:
    """The folder for results, and the features of bank and queries; None on other ranks."""
    if (args.bank is None) != (args.queries is None):
        raise UsageError("--bank and --queries go together")
    if alone is not None and (args.split or args.bank):
        raise UsageError("--leave-one-out takes the place of --split, --bank and --queries")

    def splits(index: ShardIndex) -> list[str | None]:
        from sce_video.evals.results import bank_and_queries, check_disjoint

        if alone is not None:
            return [alone or None]
        bank, queries = args.bank, args.queries
        if bank is None:
            bank, queries = bank_and_queries(index, args.split)
        check_disjoint(index, bank, queries)
        return [bank, queries]

    requests = _requests(args, runtime, splits)
    from sce_video.evals.results import extract_for

    return args.out or requests[0].encoder.folder / verb, extract_for(requests, runtime)


def _check(args: argparse.Namespace, index: ShardIndex, missing: list[str]) -> None:
    """Under ``--strict`` nothing may be missing, neither here nor when the set was made.

    Raises:
        VerificationError: something is.
    """
    if not args.strict:
        return
    rejected = index.manifest.rejected
    lost: dict[str, Any] = {why: n for why, n in rejected.items() if why not in _NO_LOSS}
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    if missing or lost:
        reasons = ", ".join(f"{n} {why}" for why, n in lost.items())
        elsewhere = f"; not in the shards, see its rejects.csv: {reasons}" if lost else ""
        raise VerificationError(f"{index.name}: {len(missing)} samples unreadable{elsewhere}")
