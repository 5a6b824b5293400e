"""This process among the others: rank, device, threads, process group."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Runtime:
    """One rank."""

    rank: int
    local_rank: int
    ranks: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this rank prints and writes."""
        return self.rank == 0


def start_runtime(workers: int) -> Runtime:
    """Join the process group that the launcher's environment describes; alone without one.

    Takes NCCL on CUDA, gloo elsewhere. Threads of a rank on a CPU: its share of the node's cores
    less the ``workers`` that make its clips, at least one.
    """
    if "RANK" not in os.environ:
        # deepspeed would look for MPI; a single process is its own launcher.
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")
        os.environ["MASTER_PORT"] = str(_free_port())
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("LOCAL_SIZE", "1")))
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local_rank)
    else:
        os.environ["DS_ACCELERATOR"] = "cpu"
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // local_ranks - workers))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo", rank=rank, world_size=ranks)
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    return Runtime(rank, local_rank, ranks, device)


def log_to(folder: Path, runtime: Runtime) -> None:
    """Log to ``folder/run.log`` from every rank, to standard error from the main one."""
    folder.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger("sce_video")
    log.setLevel(logging.INFO)
    log.propagate = False
    handlers: list[logging.Handler] = [logging.FileHandler(folder / "run.log", delay=True)]
    if runtime.main:
        shown = logging.StreamHandler()
        shown.addFilter(lambda record: not getattr(record, "file_only", False))
        handlers.append(shown)
    for handler in handlers:
        rank = f" rank {runtime.rank}" if runtime.ranks > 1 else ""
        handler.setFormatter(logging.Formatter(f"%(levelname)s{rank}: %(message)s"))
        log.addHandler(handler)


def stop_runtime() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        with contextlib.suppress(RuntimeError):  # a peer that has gone already
            dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
