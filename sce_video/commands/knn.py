"""``sce-video knn``: nearest neighbours vote for classes."""

from __future__ import annotations

from argparse import Namespace

from sce_video.arguments import between, whole
from sce_video.commands import evaluation
from sce_video.terminal import say


def main(arguments: list[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    about = "Weighted k-nearest-neighbour accuracy of frozen features."
    parser = evaluation.lists_parser(prog, about)
    about = "instead: each sample of SPLIT (default: of the set) against its others"
    add = parser.add_argument
    add("--leave-one-out", nargs="?", const="", metavar="SPLIT", help=about)
    add("--k", type=whole(1), default=20, help="neighbours (default 20)")
    add("--temp", type=between(1e-6, 1e6), default=0.07, help="of the votes (default 0.07)")
    return evaluation.run_as_rank(parser, arguments, _knn)


def _knn(args: Namespace) -> None:
    from sce_video.evals.knn import votes, write_knn

    out, data = evaluation.extract(args, "knn/knn.json", votes(args.k, args.temp))
    if data is None:
        return
    alone = args.leave_one_out is not None
    summary = write_knn(out, data, args.k, args.temp, leave_one_out=alone)
    figure = f"kNN top-1 {summary['top1']:.3f} of {summary['samples']} queries"
    say(f"{figure}, {evaluation.count_missing(data.missing)}: {out / 'knn.json'}")
    evaluation.check_complete(args, data.index, data.missing)
