"""What the evaluation verbs share: arguments, ranks, what is extracted, what is missing."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sce_video.arguments import Parser, between, whole
from sce_video.engine.ranks import check_launcher, place, prints
from sce_video.errors import UsageError, VerificationError
from sce_video.terminal import note

if TYPE_CHECKING:
    from sce_video.evals.bank import BankAndQueries
    from sce_video.evals.request import Request
    from sce_video.shardset.index import ShardIndex


def set_parser(prog: str, about: str) -> Parser:
    """What all evaluations of a shard set take."""
    parser = Parser(prog=prog, description=about)
    add = parser.add_argument
    add("--clips", type=whole(1), default=10, help="clips a video (default 10)")
    add("--crops", type=int, choices=(1, 3), default=3, help="default 3")
    add("--size", type=whole(1), help="crop side (default 8/7 of the training size)")
    add("--workers", type=whole(0), default=2, help="decoding (default 2)")
    add("--strict", action="store_true", help="exit with 3 where a sample is missing")
    return parser


def encoder_parser(prog: str, about: str) -> Parser:
    """What all evaluations of an encoder take."""
    parser = set_parser(prog, about)
    add = parser.add_argument
    add(
        "--encoder",
        required=True,
        help="a run's folder, an encoder file, a checkpoint, torchvision:NAME (fresh weights), "
        "torchvision:NAME=FILE, or weights of others; FILE#PREFIX takes one of several",
    )
    add("--shards", required=True, help="shard set to evaluate on, folder or URL")
    add("--frames", type=whole(1), help="of a clip (default: as in training)")
    add("--seconds", type=between(1e-3, 1e4), help="span of a clip (default: as in training)")
    add("--seed", type=_seed, default=0, help="of fresh weights (default 0)")
    add("--out", type=Path, help="folder (default: beside the encoder)")
    return parser


def _seed(text: str) -> int:
    """A whole number that torch takes."""
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ArgumentTypeError(f"'{text}' is no whole number of at most 18 digits")
    return int(text)


def lists_parser(prog: str, about: str) -> Parser:
    """What all evaluations of queries against a bank take."""
    parser = encoder_parser(prog, about)
    add = parser.add_argument
    add("--split", help="N: bank = split N's train list, queries = its test list")
    add("--bank", help="split of the bank, e.g. train or split1:train")
    add("--queries", help="split of the queries")
    parser.set_defaults(leave_one_out=None)
    return parser


def run_as_rank(parser: Parser, arguments: Sequence[str], verb: Callable[[Namespace], None]) -> int:
    """Run a verb as the rank that ``args.runtime`` says; only the main one prints errors."""

    def command(args: Namespace) -> None:
        from sce_video.engine.runtime import find_runtime
        from sce_video.engine.signals import watch_launcher

        check_launcher(meet=False)
        watch_launcher()
        args.runtime = find_runtime(args.workers if place().ranks > 1 else 0)
        verb(args)

    return parser.run(arguments, command, quiet=not prints())


def find_requests(
    args: Namespace, splits: Callable[[ShardIndex], Sequence[str | None]]
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
    if encoder.note and args.runtime.main:
        note(encoder.note)
    views = eval_views(spec, args.clips, args.crops, args.size)
    return [
        Request(encoder, index, index.name, split, views, args.runtime.device, args.workers)
        for split in wanted
    ]


def extract(
    args: Namespace, result: str, settings: Mapping[str, object]
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

    requests = find_requests(args, splits)
    beside = requests[0].encoder.folder / result
    if not args.out:
        check_replaces(beside, {**lists_protocol(requests), **settings})
    return args.out or beside.parent, extract_lists(requests, args.runtime)


def count_missing(names: Sequence[str], what: str = "unreadable") -> str:
    """How many samples are missing, and the first of them; ``names`` may say why."""
    first = [name.partition(": ")[0] for name in names[:3]] + ["..."] * (len(names) > 3)
    return f"{len(names)} {what}" + (f" ({', '.join(first)})" if names else "")


def check_complete(args: Namespace, index: ShardIndex, missing: Sequence[str]) -> None:
    """Under ``--strict`` nothing may be missing, neither here nor when the set was made.

    Raises:
        VerificationError: something is.
    """
    if not args.strict:
        return
    from sce_video.shardset.manifest import listed

    lost = listed(index.manifest.rejected)
    note(*(f"missing: {line}" for line in missing))
    if missing or lost:
        reasons = ", ".join(f"{n} {why}" for why, n in lost.items())
        elsewhere = f"; not in the shards, see its rejects.csv: {reasons}" if lost else ""
        raise VerificationError(f"{index.name}: {len(missing)} samples unreadable{elsewhere}")
