"""Which process this is, by the variables of each launcher."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from sce_video.engine.ranks import Place, check_launcher, place, prints, stand_alone
from sce_video.errors import UsageError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOCAL_SIZE")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, Place(0, 1, 0, 1), id="no launcher"),
        pytest.param(
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
            Place(5, 8, 1, 4),
            id="torchrun",
        ),
        pytest.param(
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_SIZE": "4"},
            Place(5, 8, 1, 4),
            id="deepspeed",
        ),
    ],
)
def test_the_place_among_the_processes(
    given: dict[str, str], expected: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert place() == expected
    monkeypatch.setattr(os, "environ", dict(os.environ))
    stand_alone()
    assert place() == expected
    assert os.environ["RANK"] == str(expected.rank)


LAUNCHED = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
MEET = {"MASTER_ADDR": "node1", "MASTER_PORT": "29600"}
WRONG: dict[str, tuple[dict[str, str], str]] = {
    "no rank": ({"WORLD_SIZE": "2", **MEET}, "WORLD_SIZE=2 without RANK; start by deepspeed"),
    "no size": ({"RANK": "0", **MEET}, "RANK=0 without WORLD_SIZE, LOCAL_RANK; st"),
    "rank alone": ({"RANK": "0"}, "RANK=0 without WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_P"),
    "no port": ({**LAUNCHED, "MASTER_ADDR": "node1"}, "RANK=1 without MASTER_PORT; "),
    "no number": ({**LAUNCHED, **MEET, "RANK": "first"}, "RANK=first: no number of 0 or more; "),
    "no place": (
        {"RANK": "1", "WORLD_SIZE": "2", **MEET},
        "RANK=1 without LOCAL_RANK; ",
    ),
    "no port number": (
        {**LAUNCHED, **MEET, "MASTER_PORT": "abc"},
        "MASTER_PORT=abc: no ",
    ),
    "none here": (
        {**LAUNCHED, **MEET, "LOCAL_WORLD_SIZE": "0"},
        "LOCAL_WORLD_SIZE=0: no ",
    ),
    "a number of 5,000 digits": (
        {**LAUNCHED, **MEET, "RANK": "9" * 5000},
        "RANK=9999",
    ),
    "digits of others": (
        {**LAUNCHED, **MEET, "WORLD_SIZE": "\u0662"},
        "WORLD_SIZE=\u0662: no number of 1 or more; ",
    ),
    "too many": ({**LAUNCHED, **MEET, "RANK": "2"}, "RANK=2 of WORLD_SIZE=2; "),
    "srun": (
        {"SLURM_NTASKS": "4", "SLURM_NNODES": "1", "SLURM_PROCID": "2"},
        "SLURM_NTASKS=4: each of the 4 tasks would work alone; start one task a machine, and let "
        "torchrun make the ranks: srun --ntasks=1 --ntasks-per-node=1 torchrun --standalone "
        "--nproc-per-node 4 train.py 'data.split=a b' (or, for one process alone: SLURM_NTASKS=1",
    ),
    "srun on two nodes": (
        {"SLURM_NTASKS": "16", "SLURM_NNODES": "2", "SLURM_PROCID": "0"},
        "srun --ntasks=2 --ntasks-per-node=1 torchrun --nnodes 2 --rdzv-backend c10d "
        '--rdzv-endpoint "$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1):29600" '
        "--nproc-per-node 8 train",
    ),
    "mpirun": (
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
        "OMPI_COMM_WORLD_SIZE=2: each of the 2 tasks would work alone; start one task a machine, "
        "and let torchrun make the ranks: torchrun --standalone --nproc-per-node 2 train.py",
    ),
}


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Sets what a launcher sets, and nothing else of the kind."""

    def set_(given: dict[str, str]) -> None:
        kept = {n: v for n, v in os.environ.items() if n not in (*NAMES, *MEET)}
        own = {n: v for n, v in kept.items() if not n.startswith(("SLURM_", "OMPI_", "PMI_"))}
        monkeypatch.setattr(os, "environ", {**own, **given})
        monkeypatch.setattr(sys, "argv", ["train.py", "data.split=a b"])

    return set_


@pytest.mark.parametrize("what", WRONG)
def test_half_a_place_is_refused(what: str, launch: Callable[[dict[str, str]], None]) -> None:
    given, said = WRONG[what]
    launch(given)
    with pytest.raises(UsageError) as caught:
        check_launcher(meet=True)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"WORLD_SIZE": "1"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {**LAUNCHED, **MEET},
        {**LAUNCHED, **MEET, "SLURM_NTASKS": "2"},  # torchrun below srun
        {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
        {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"},  # a step of one task
    ],
    ids=lambda given: " ".join(given) or "nothing",
)
def test_a_whole_place_is_taken(
    given: dict[str, str], launch: Callable[[dict[str, str]], None]
) -> None:
    launch(given)
    check_launcher(meet=True)


def test_ranks_that_meet_in_a_folder_need_no_address(
    launch: Callable[[dict[str, str]], None],
) -> None:
    launch({**LAUNCHED, "SLURM_NTASKS": "2"})
    check_launcher(meet=False)
    launch({"SLURM_NTASKS": "4"})
    check_launcher(meet=False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, True),
        ({"RANK": "0", "SLURM_PROCID": "3"}, True),
        ({"RANK": "1"}, False),
        ({"SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "1"}, False),
        ({"OMPI_COMM_WORLD_RANK": "1"}, False),
    ],
    ids=str,
)
def test_one_process_prints(
    given: dict[str, str], expected: bool, launch: Callable[[dict[str, str]], None]
) -> None:
    launch(given)
    assert prints() is expected
