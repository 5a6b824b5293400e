"""This process among the others: rank, device, threads, process group."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import socket
import time
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore, Store, TCPStore

from sce_video import __version__
from sce_video.engine.ranks import place, stand_alone
from sce_video.engine.signals import deepspeed_launcher
from sce_video.errors import SceVideoError, UsageError
from sce_video.processes import STARTED, stat
from sce_video.stream.loader import keep_memory

Value = TypeVar("Value")

_PATIENCE = 300.0  # seconds that ranks wait for each other at the start


@dataclass(frozen=True)
class Runtime:
    """One rank."""

    rank: int
    ranks: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this rank prints and writes."""
        return self.rank == 0

    def environment(self) -> str:
        """Versions and hardware that a run's figures depend on, in one line."""
        cuda = self.device.type == "cuda"
        where = torch.cuda.get_device_name(self.device) if cuda else f"{os.cpu_count()} CPU cores"
        versions = [f"{name} {version(name)}" for name in ("torch", "deepspeed", "av")]
        own = [f"sce-video {__version__}", f"Python {platform.python_version()}"]
        return ", ".join([*own, *versions, platform.platform(), where])


def find_runtime(workers: int) -> Runtime:
    """What the launcher's environment makes of this process; alone without one.

    Threads of a rank on a CPU: its share of the node's cores less the ``workers`` that make its
    clips, at least one.
    """
    rank, ranks, local_rank, local_ranks = place()
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
        return Runtime(rank, ranks, torch.device("cuda", local_rank))
    keep_memory(1 << 30, -1)  # to fault activations in again costs a fifth of a step
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(max(1, cores // local_ranks - workers))
    return Runtime(rank, ranks, torch.device("cpu"))


def start_runtime(workers: int) -> Runtime:
    """Join the process group of :func:`find_runtime`'s ranks: NCCL on CUDA, gloo elsewhere."""
    stand_alone()
    runtime = find_runtime(workers)
    if runtime.device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    if not dist.is_initialized():
        backend = "nccl" if runtime.device.type == "cuda" else "gloo"
        store = _store(runtime.rank, runtime.ranks)
        dist.init_process_group(backend, store=store, rank=runtime.rank, world_size=runtime.ranks)
    return runtime


def share(value: Value) -> Value:
    """The main rank's value on all ranks; a collective call."""
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def agree(runtime: Runtime, problem: str | None) -> None:
    """Go on where no rank has a problem; a collective call.

    Raises:
        UsageError: on all ranks, the first problem.
    """
    problems: list[str | None] = [None] * runtime.ranks
    dist.all_gather_object(problems, problem)
    if first := next(filter(None, problems), None):
        raise UsageError(first)


def stop_runtime() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        with contextlib.suppress(RuntimeError):  # a peer that has gone already
            dist.destroy_process_group()


def _store(rank: int, ranks: int) -> Store | None:
    """Where the ranks meet; None = at the address and port that the launcher names."""
    if ranks == 1:
        return HashStore()
    # Without --master_port every deepspeed job takes the same: two on a machine would collide.
    # Several machines cannot do without a port that all know.
    launcher = deepspeed_launcher()
    default, nodes = os.environ["MASTER_PORT"] == "29500", os.environ.get("CROSS_SIZE")
    if launcher and default and nodes == "1":
        return _store_of_one_machine(rank, ranks, launcher)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return store_of_this_start(TCPStore(address, port, is_master=False), rank, ranks)
    return None


def store_of_this_start(store: Store, rank: int, ranks: int) -> Store:
    """What of ``torchrun``'s store these ranks alone use.

    It outlives restarts, and holds where the ranks of an earlier start could be reached: who is
    quick would go there. Here all wait until they see the same ranks, and none of an earlier start
    sees this one. A collective call.

    Raises:
        SceVideoError: not all came.
    """
    store.set(f"rank/{rank}", uuid.uuid4().hex)
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        seen = store.multi_get([f"rank/{number}" for number in range(ranks)])
        start = hashlib.sha256(b"".join(seen)).hexdigest()
        store.set(f"{start}/{rank}", "sees them")
        if store.check([f"{start}/{number}" for number in range(ranks)]):
            return PrefixStore(start, store)
        time.sleep(0.1)
    raise SceVideoError("not all ranks came up: see what they say")


def _store_of_one_machine(rank: int, ranks: int, launcher: int) -> Store:
    """A store on a free port, told to the others over a socket named after our launcher."""
    name = f"\0sce-video/{launcher}/{stat(launcher, STARTED)}"
    until = time.monotonic() + _PATIENCE
    if rank == 0:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(_PATIENCE)
            server.bind(name)
            server.listen(ranks)
            for _ in range(ranks - 1):
                with server.accept()[0] as peer:
                    peer.sendall(str(store.port).encode())
        return store
    while True:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(name)
                return TCPStore("127.0.0.1", int(client.recv(16)), is_master=False)
            except ConnectionRefusedError as error:  # rank 0 is not there yet
                if time.monotonic() > until:
                    raise SceVideoError("rank 0 did not come up: see what it says") from error
        time.sleep(0.1)
