"""``sce-video retrieve``: nearest videos of every query."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sce_video.commands.evaluation import (
    check_complete,
    count_missing,
    extract,
    lists_parser,
    run_as_rank,
)

if TYPE_CHECKING:
    from sce_video.engine.runtime import Runtime

ABOUT = "nearest videos of every query: R@k, mAP"


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    parser = lists_parser(prog, "Nearest videos of every query: R@k and mAP.")
    return run_as_rank(parser, arguments, _retrieve)


def _retrieve(args: Namespace, runtime: Runtime) -> None:
    out, data = extract(args, runtime, "retrieval/retrieval.json", {})
    if data is None:
        return
    from sce_video.evals.retrieval import RANKS, write_retrieval

    summary = write_retrieval(out, data)
    print(f"{summary['samples']} queries against {summary['bank_samples']} videos, ", end="")
    print(f"{count_missing(data.missing)}: {out / 'retrieval.json'}")
    print("  ".join(f"R@{k} {summary[f'R@{k}']:.3f}" for k in RANKS), end="")
    print(f"  mAP {summary['mAP']:.3f}")
    check_complete(args, data.index, data.missing)
