"""``sce-video retrieve``: nearest videos of every query."""

from __future__ import annotations

from argparse import Namespace

from sce_video.commands import evaluation
from sce_video.terminal import say


def main(arguments: list[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    parser = evaluation.lists_parser(prog, "Nearest videos of every query: R@k and mAP.")
    return evaluation.run_as_rank(parser, arguments, _retrieve)


def _retrieve(args: Namespace) -> None:
    out, data = evaluation.extract(args, "retrieval/retrieval.json", {})
    if data is None:
        return
    from sce_video.evals.retrieval import RANKS, write_retrieval

    summary = write_retrieval(out, data)
    of = f"{summary['samples']} queries against {summary['bank_samples']} videos"
    say(f"{of}, {evaluation.count_missing(data.missing)}: {out / 'retrieval.json'}")
    recalls = "  ".join(f"R@{k} {summary[f'R@{k}']:.3f}" for k in RANKS)
    say(f"{recalls}  mAP {summary['mAP']:.3f}")
    evaluation.check_complete(args, data.index, data.missing)
