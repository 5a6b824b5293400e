"""``python -m tests.faults``: the table; with ``--number`` one input, with its traceback."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from pathlib import Path

import torch

from tests.faults.attempt import Case, Limits, attempt, confine
from tests.faults.guard import Guard
from tests.faults.table import TARGETS, made, try_all


def main(arguments: list[str]) -> int:
    """0 where nothing failed, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    names = [target.name for target in TARGETS]
    parser.add_argument("--target", action="append", choices=names, help="this one (default: all)")
    parser.add_argument("--inputs", type=int, default=1_000, help="bad ones (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of what makes them bad (default 0)")
    parser.add_argument("--number", type=int, help="this input of --target alone")
    parser.add_argument("--keep", type=Path, help="with --number: a folder for the input")
    parser.add_argument("--json", type=Path, help="write the table there, too")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)  # threads do not survive a fork
    chosen = [target for target in TARGETS if not args.target or target.name in args.target]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        root = Path(folder)
        cases = made(chosen, root, args.seed)
        if args.number is not None:
            if len(cases) != 1:
                parser.error("--number goes with one --target")
            return _one(cases[0], args.number, root, args.keep)
        table = try_all(cases, root, args.inputs, Limits())
    print("\n".join(table.lines()))
    if args.json:
        args.json.write_text(json.dumps(table.as_json(), indent=1) + "\n")
    return 1 if table.failures else 0


def _one(case: Case, number: int, root: Path, keep: Path | None) -> int:
    """Try an input in this process; it may hang, or end it."""
    limits, work = Limits(), root / "work"
    work.mkdir()
    if keep and number >= 0:
        case.target.input(case.good, keep, case.seed, number)
    confine(limits)
    place, verdict, error = attempt(case, number, work, Guard(), limits)
    if error is not None:
        traceback.print_exception(error)
    print(f"{place}: {verdict.outcome} {verdict.kind} {verdict.why!a}")
    return 1 if verdict.outcome == "failed" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
