"""``sce-video test``: classifiers on their test lists."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from sce_video.commands import evaluation
from sce_video.errors import UsageError, complain
from sce_video.terminal import say

if TYPE_CHECKING:
    from sce_video.evals.request import Request


def main(arguments: list[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    about = (
        "Accuracy of linear or finetune runs on their test lists, last weights, 10 x 3 views a "
        "video. Of several runs also mean and standard deviation. A run that has not ended is "
        "tested at its newest checkpoint, which is said."
    )
    parser = evaluation.set_parser(prog, about)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    add(
        "--shards",
        help="the set, folder or URL, where it lies elsewhere than the run says, or not here",
    )
    add(
        "--split",
        help="N = test list of split N, or a split such as val (default: the test list beside the "
        "list trained on)",
    )
    add("--out", type=Path, help="default RUN/test; of several runs, where their mean is written")
    return evaluation.run_as_rank(parser, arguments, _test)


def _test(args: Namespace) -> None:
    requests = _test_requests(args)
    from sce_video.evals.classification import FIGURES, write_spread, write_test
    from sce_video.evals.embed import features_of

    if (found := features_of(requests, args.runtime)) is None:
        return
    results, several = [], len(requests) > 1
    for request, scores in zip(requests, found, strict=True):
        beside = request.encoder.folder / "test"
        out = beside if several else args.out or beside
        results.append(result := write_test(out, request, scores))
        figures = "  ".join(f"{name} {result[name]:.4f}" for name in FIGURES)
        missing = evaluation.count_missing(result["missing_samples"], "missing")
        of = f"{result['samples']} samples, {missing}{_where(request)}"
        say(f"{figures}  {request.split}: {of}: {out / 'test.json'}")
    if several:
        out = args.out or requests[0].encoder.folder / "test"
        spread = write_spread(results, out)
        means = (f"{n} {spread[n]['mean']:.4f} ± {spread[n]['std']:.4f}" for n in FIGURES)
        going = sum(bool(_where(request)) for request in requests)
        some = f", {going} not ended" if going else ""
        say(f"{'  '.join(means)}  mean of {len(results)} runs{some}: {out / 'mean.json'}")
    for request, result in zip(requests, results, strict=True):
        evaluation.check_complete(args, request.index, result["missing_samples"])


def _where(request: Request) -> str:
    """How far a run has come that has not ended."""
    about = request.encoder.identity
    if "step" not in about:
        return ""
    return f", of a run that has not ended: step {about['step']}, epoch {about['epoch']}"


def _test_requests(args: Namespace) -> list[Request]:
    """What is to be scored; all of it is checked before hours of work."""
    if len({run.resolve() for run in args.runs}) < len(args.runs):
        raise UsageError("a run is given twice")
    from sce_video.evals.classification import open_test, test_protocol
    from sce_video.evals.request import Request
    from sce_video.evals.results import check_replaces
    from sce_video.evals.views import eval_views

    def warn(message: str) -> None:
        if args.runtime.main:
            complain(message)

    requests, several, first = [], len(args.runs) > 1, None
    for run in args.runs:
        tested = open_test(run, args.shards, args.split, warn)
        classifier, index, task = tested.classifier, tested.index, tested.task
        what = (task, index.manifest.dataset, index.manifest.classes)
        if first and what != first:
            others = f"{args.runs[0]} ({' on '.join(first[:2])})"
            raise UsageError(
                f"{run}: {task} on {what[1]} has no mean with {others}; test them one by one"
            )
        first = what
        views = eval_views(classifier.spec, args.clips, args.crops, args.size)
        where = (classifier, index, index.name, tested.split, views)
        how = (args.runtime.device, args.workers, tested.classes)
        requests.append(request := Request(*where, *how))
        if several or not args.out:
            hint = "move or " if several else "give --out, or "
            check_replaces(classifier.folder / "test/test.json", test_protocol(request), hint)
    return requests
