"""Where ranks meet: jobs of one machine that name no port find one each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torch.distributed import Store, TCPStore

from sce_video.engine.runtime import store_of_this_start
from tests.conftest import REPOSITORY
from tests.runs import environment

# A stand-in of DeepSpeed's launch.py: two ranks, all told the same port.
LAUNCH = """
import os, subprocess, sys
ranks = [subprocess.Popen([sys.executable, *sys.argv[1:]], env={**os.environ, "RANK": str(rank)})
         for rank in (0, 1)]
sys.exit(max(rank.wait() for rank in ranks))
"""
RANK = """
import pathlib, sys, time, torch, torch.distributed as dist
from sce_video.engine.runtime import start_runtime, stop_runtime
runtime = start_runtime(0)
total = torch.tensor(float(sys.argv[1]))
up = pathlib.Path(sys.argv[2])
(up / sys.argv[1]).touch()
while runtime.main and len(list(up.iterdir())) < 2:  # the jobs overlap
    time.sleep(0.05)
dist.all_reduce(total)
if runtime.main:
    print(runtime.ranks, total.item())
stop_runtime()
"""


@pytest.mark.slow
def test_two_jobs_with_the_same_default_port(tmp_path: Path) -> None:
    launch = tmp_path / "deepspeed" / "launcher" / "launch.py"
    launch.parent.mkdir(parents=True)
    launch.write_text(LAUNCH)
    for package in (launch.parent, launch.parent.parent):
        (package / "__init__.py").touch()
    (tmp_path / "rank.py").write_text(RANK)
    (tmp_path / "up").mkdir()
    env = environment(
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(REPOSITORY)]),
        **{"WORLD_SIZE": "2", "LOCAL_SIZE": "2", "CROSS_SIZE": "1"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
    )
    command = [sys.executable, "-m", "deepspeed.launcher.launch", str(tmp_path / "rank.py")]
    jobs = [
        subprocess.Popen(
            [*command, number, str(tmp_path / "up")], env=env, stdout=subprocess.PIPE, text=True
        )
        for number in ("1", "10")
    ]
    printed = [job.communicate(timeout=120)[0].split() for job in jobs]
    assert printed == [["2", "2.0"], ["2", "20.0"]]


def test_a_start_does_not_meet_what_an_earlier_one_left_in_the_launcher_s_store() -> None:
    """The main rank comes late, and the others find its place of the start before."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def join(rank: int) -> Store:
        client = TCPStore("127.0.0.1", server.port, is_master=False)
        time.sleep(0.5 * (rank == 0))
        return store_of_this_start(client, rank, 3)

    with ThreadPoolExecutor(3) as threads:
        for _ in range(3):
            stores = list(threads.map(join, range(3)))
            assert not any(store.check(["address"]) for store in stores)
            stores[0].set("address", "of this start")
            assert all(store.get("address") == b"of this start" for store in stores)
