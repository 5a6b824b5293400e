"""Which of a launcher's processes this is: the one reader of the variables that say so."""

from __future__ import annotations

import os
from typing import NamedTuple


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


def stand_alone() -> None:
    """Be rank 0 of 1 where no launcher gave a rank: deepspeed would look for MPI."""
    if "RANK" not in os.environ:
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
