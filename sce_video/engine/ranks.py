"""Which of a launcher's processes this is: the one reader of the variables that say so."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import NamedTuple

from sce_video.errors import UsageError
from sce_video.text import shell_word

# Variables of launchers that start many processes and tell them nothing of ours.
_TASKS = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_TASK = ("SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
_NODES = ("SLURM_STEP_NUM_NODES", "SLURM_NNODES")


class Place(NamedTuple):
    """A process among those that a launcher started."""

    rank: int
    ranks: int
    local_rank: int  # among those on its machine
    local_ranks: int


def place() -> Place:
    """What the variables of ``torchrun`` or ``deepspeed`` make of this process; alone without."""
    local_ranks = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE", "1")
    return Place(
        rank=int(os.environ.get("RANK", "0")),
        ranks=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        local_ranks=int(local_ranks),
    )


def prints() -> bool:
    """Whether this process is the one of its launcher's that prints errors."""
    first = next((os.environ[name] for name in ("RANK", *_TASK) if name in os.environ), "0")
    return first == "0"


def check_launcher(*, meet: bool) -> None:
    """Refuse what no launcher of ours has set: half a place, or many tasks that train alone.

    Args:
        meet: whether several ranks need an address to meet at; without one, tasks that do not know
            of each other may each do a whole work of their own.

    Raises:
        UsageError: the variable is named, and for tasks of others the line that works.
    """
    env = os.environ
    for name, least in _NUMBERS.items():
        if name in env and _number(env[name], -1) < least:
            raise UsageError(f"{name}={env[name]}: no number of {least} or more; {_ADVICE}")
    if "RANK" not in env:
        if env.get("WORLD_SIZE", "1") != "1":
            raise UsageError(f"WORLD_SIZE={env['WORLD_SIZE']} without RANK; {_ADVICE}")
        if meet:
            _check_tasks(env)
        return
    several = meet and env.get("WORLD_SIZE") != "1"
    needed = ("WORLD_SIZE", *(("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if several else ()))
    if lacking := [name for name in needed if name not in env]:
        raise UsageError(f"RANK={env['RANK']} without {', '.join(lacking)}; {_ADVICE}")
    if int(env["RANK"]) >= int(env["WORLD_SIZE"]):
        raise UsageError(f"RANK={env['RANK']} of WORLD_SIZE={env['WORLD_SIZE']}; {_ADVICE}")


_NUMBERS = {
    "RANK": 0,
    "WORLD_SIZE": 1,
    "LOCAL_RANK": 0,
    "LOCAL_WORLD_SIZE": 1,
    "LOCAL_SIZE": 1,
    "MASTER_PORT": 0,
}
_ADVICE = "start by deepspeed or torchrun, which set them all, or unset RANK and WORLD_SIZE"


def _number(text: str, otherwise: int) -> int:
    """A number as launchers write them, of nine digits at most."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else otherwise


def _check_tasks(env: Mapping[str, str]) -> None:
    """Refuse to be one of several tasks that do not know of each other."""
    name = next((name for name in _TASKS if name in env), None)
    tasks = _number(env[name], 1) if name else 1
    if name is None or tasks < 2:
        return
    nodes = max(1, _number(next((env[n] for n in _NODES if n in env), ""), 1))
    start, meet = "", "--standalone"
    if name.startswith("SLURM"):
        start = f"srun --ntasks={nodes} --ntasks-per-node=1 "
        if nodes > 1:
            first = '"$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1):29600"'
            meet = f"--nnodes {nodes} --rdzv-backend c10d --rdzv-endpoint {first}"
    line = f"{start}torchrun {meet} --nproc-per-node {max(1, tasks // nodes)}"
    own = " ".join(map(shell_word, sys.argv))
    raise UsageError(
        f"{name}={tasks}: each of the {tasks} tasks would work alone; start one task a machine, "
        f"and let torchrun make the ranks: {line} {own} (or, for one process "
        f"alone: {name}=1 in front)"
    )


def stand_alone() -> None:
    """Be rank 0 of 1 where no launcher gave a rank: deepspeed would look for MPI."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
