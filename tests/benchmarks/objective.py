"""An objective's forward and backward pass against a queue.

In one thread, fp32, on the CPU; beside the bare matrix products that it cannot do without, and
beside lightly's NT-Xent with its memory bank. Extra memory is the peak during both passes less what
was there before, in units of the similarities ``[N,K]``.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sce_video.arguments import Parser, whole
from sce_video.errors import first_line
from sce_video.objectives import Ring, info_nce_loss, ressl_loss, ring_loss, sce_loss
from sce_video.objectives.base import PairLoss
from sce_video.objectives.memory import Queue
from tests.benchmarks.sets import run_bench
from tests.benchmarks.timing import (
    Work,
    at_least,
    at_most,
    measure,
    one_thread,
    print_goals,
    print_table,
)

OBJECTIVES: dict[str, tuple[PairLoss, int]] = {
    "sce": (sce_loss, 3),
    "sce, ring": (partial(sce_loss, ring=Ring()), 3),
    "sce, neighbours 5": (partial(sce_loss, neighbours=5), 3),
    "ressl": (ressl_loss, 3),
    "info_nce": (info_nce_loss, 2),
    "ring": (ring_loss, 2),
}
"""Name -> loss, and its products with the queue: the queries', the gradient's, some the keys'."""
OURS, PEER = "info_nce, enqueue", "lightly NTXentLoss"
TEMP = 0.2  # of these two
MOST_TIME = 2.5  # times the bare products
MOST_MEMORY = 4.0  # times the similarities
LEAST_SPEED = 1.0  # times lightly
_COLUMNS = {"cpu_ms": ".1f", "wall_ms": ".1f", "noise": ".0%", "x_bare": ".2f", "extra": ".2f"}


def find_works(n: int, dim: int, size: int) -> tuple[dict[str, Work], dict[str, str]]:
    """What is timed, by name, on the same ``q, k [n,dim]`` and queue ``[dim,size]``.

    And what is missing, with why. All but the products return their loss.
    """
    random = torch.Generator().manual_seed(0)
    q, k = F.normalize(torch.randn(2, n, dim, generator=random), dim=2)
    queue, gradient = Queue(dim, size, seed=0), torch.randn(n, size, generator=random)

    def bare(products: int) -> None:
        for x in (q, k)[: products - 1]:
            x @ queue.keys
        gradient @ queue.keys.T

    def enqueue() -> Tensor:
        value = _both_passes(partial(info_nce_loss, temp=TEMP), q, k, queue.keys)
        queue.enqueue(k)
        return value

    works: dict[str, Work] = {_bare(count): partial(bare, count) for count in (3, 2)}
    for name, (loss, _) in OBJECTIVES.items():
        works[name] = partial(_both_passes, loss, q, k, queue.keys)
    works[OURS] = enqueue
    try:
        from lightly.loss import NTXentLoss
    except ImportError as error:
        return works, {PEER: first_line(error)}
    peer = NTXentLoss(temperature=TEMP, memory_bank_size=(size, dim))
    peer.memory_bank.bank.copy_(queue.keys.T)
    works[PEER] = partial(_both_passes, lambda q, k: (peer(q, k), None), q, k)
    return works, {}


def _bare(products: int) -> str:
    return f"bare products, {products}"


def _both_passes(loss: Callable[..., tuple[Tensor, object]], q: Tensor, *others: Tensor) -> Tensor:
    value, _ = loss(q.requires_grad_(), *others)
    torch.autograd.grad(value, q)
    return value.detach()


def extra_memory(n: int, dim: int, size: int) -> dict[str, int]:
    """Bytes that each work needs at its peak (Linux, glibc); for a process of its own."""
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 2**20)  # M_MMAP_THRESHOLD: blocks of 1 MiB and more leave no holes when freed
    with one_thread():
        small, works = find_works(4, dim, 128)[0], find_works(n, dim, size)[0]
        extra = {}
        for name, work in works.items():
            small[name]()  # what libraries set up once
            libc.malloc_trim(0)  # what is free leaves, so that its next use counts
            Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
            before = _status("VmRSS")
            work()
            extra[name] = _status("VmHWM") - before
    return extra


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def bench_objective(n: int, dim: int, size: int, *, rounds: int) -> dict[str, Any]:
    """All tables, as JSON values."""
    with get_context("spawn").Pool(1) as pool:
        extra = pool.apply(extra_memory, (n, dim, size))
    with one_thread():
        works, missing = find_works(n, dim, size)
        for work in works.values():
            work()  # warm
        spent = measure({name: _always(work) for name, work in works.items()}, rounds, 1)
    rows: dict[str, dict[str, Any]] = {}
    for name, used in spent.items():
        row = {"name": name, "cpu_ms": used.cpu_ms, "wall_ms": used.wall_ms, "noise": used.noise}
        rows[name] = {**row, "extra": extra[name] / (4 * n * size)}
        if name in OBJECTIVES:
            rows[name]["x_bare"] = used.cpu_ms / spent[_bare(OBJECTIVES[name][1])].cpu_ms
    return {"rows": list(rows.values()), "targets": _targets(rows), "missing": missing}


def _always(work: Work) -> Callable[[int], Work]:
    return lambda _: work


def _targets(rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is aimed at, beside what was measured."""
    name = "sce: time, times its bare products"
    targets = [at_most(name, rows["sce"]["x_bare"], MOST_TIME)]
    for row in OBJECTIVES:
        name = f"{row}: extra memory, times the similarities"
        targets.append(at_most(name, rows[row]["extra"], MOST_MEMORY))
    if PEER in rows:
        value = rows[PEER]["cpu_ms"] / rows[OURS]["cpu_ms"]
        targets.append(at_least(f"{OURS}: times as fast as {PEER}", value, LEAST_SPEED))
    return targets


def _print(result: Mapping[str, Any]) -> None:
    print(f"{result['machine']}\n{result['command']}\none thread\n")
    print_table("", _COLUMNS, result["rows"])
    print_goals(result, least=".2f", most=".2f")


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    parser = Parser(prog="python -m tests.benchmarks.objective", description=__doc__)
    parser.add_argument("--n", type=whole(2), default=64, help="queries (default 64)")
    parser.add_argument("--dim", type=whole(2), default=256, help="width (default 256)")
    parser.add_argument("--queue", type=whole(128), default=65536, help="keys (default 65536)")
    parser.add_argument("--rounds", type=whole(1), default=7, help="default 7")

    def bench(args: argparse.Namespace) -> dict[str, Any]:
        return bench_objective(args.n, args.dim, args.queue, rounds=args.rounds)

    return run_bench(parser, argv, bench, _print)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
