"""``sce-video embed``: features of a shard set."""

from __future__ import annotations

import shutil
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

from sce_video.commands import evaluation
from sce_video.terminal import say

_AT_ONCE = 1 << 20  # bytes that are copied


def main(arguments: list[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    parser = evaluation.encoder_parser(prog, "Features of a shard set, extracted once and kept.")
    parser.add_argument("--split", help="e.g. train or split1:test (default: the whole set)")
    return evaluation.run_as_rank(parser, arguments, _embed)


def _embed(args: Namespace) -> None:
    requests = evaluation.find_requests(args, lambda _: [args.split])
    from sce_video.evals.embed import embed
    from sce_video.evals.kept import FEATURES_NAME, check_table, read_features
    from sce_video.lock import LOCK_NAME, Lock

    out = args.out if args.runtime.main else None
    own = {request.folder.resolve() for request in requests}  # which embed locks
    with Lock(out / LOCK_NAME) if out and out.resolve() not in own else nullcontext():
        for folder in embed(requests, args.runtime) or ():
            found = read_features(folder, requests[0])
            check_table(folder, requests[0])
            if out:
                _copy(folder, out)
            count, width = found.values.shape
            missing = evaluation.count_missing(found.missing_lines)
            say(f"{count} features of {width}, {missing}: {(out or folder) / FEATURES_NAME}")
            evaluation.check_complete(args, requests[0].index, found.missing_lines)


def _copy(folder: Path, out: Path) -> None:
    """Copy features and their table, each whole."""
    from sce_video.evals.kept import FEATURES_NAME, ROWS_NAME
    from sce_video.files import whole_file

    for name in (ROWS_NAME, FEATURES_NAME):
        # Not by copyfile, whose errors name the source where the copy finds no room.
        with (
            (folder / name).open("rb") as source,
            whole_file(out / name) as partial,
            partial.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy, _AT_ONCE)
