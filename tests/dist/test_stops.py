"""How runs end: by a signal to a rank or a launcher, by a kill, by a full disk."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sce_video.engine import checkpoint
from tests.conftest import REPOSITORY
from tests.jobs import LAUNCHERS, Job, parent
from tests.runs import BIN, TRAIN, environment, free_port, make_shards, write_config

INTERVAL = 2  # steps between checkpoints


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stops")
    return write_config(root / "tiny.yaml", make_shards(root))


def start(
    config: Path,
    folder: Path,
    launcher: str,
    *overrides: str,
    preexec: Callable[[], None] | None = None,
    **env: str,
) -> Job:
    command = [*LAUNCHERS[launcher], "--config", str(config)]
    given = ("train.epochs=2000", "train.save_every=1000", *overrides)
    return Job(command, folder, *given, preexec=preexec, **env)


def to_launcher(number: int) -> Callable[[Job], None]:
    return lambda job: os.kill(job.process.pid, number)


def to_group(number: int) -> Callable[[Job], None]:
    """What a terminal does on Ctrl-C."""
    return lambda job: os.killpg(job.process.pid, number)


def to_rank(number: int) -> Callable[[Job], None]:
    return lambda job: os.kill(job.rank(1), number)


def to_all(number: int) -> Callable[[Job], None]:
    """What SLURM does to a step."""

    def send(job: Job) -> None:
        for process in job.processes():
            os.kill(process, number)

    return send


def to_launch(number: int) -> Callable[[Job], None]:
    """To the process between ``deepspeed`` and the ranks."""
    return lambda job: os.kill(job.find("deepspeed.launcher.launch"), number)


# What is sent, and the code that the launcher then gives; the README's table.
STOPS = {
    "python SIGTERM": ("python", to_launcher(signal.SIGTERM), 130),
    "python SIGUSR1": ("python", to_launcher(signal.SIGUSR1), 130),
    "python Ctrl-C": ("python", to_group(signal.SIGINT), 130),
    "deepspeed SIGTERM": ("deepspeed", to_launcher(signal.SIGTERM), 143),
    "deepspeed SIGKILL": ("deepspeed", to_launcher(signal.SIGKILL), 137),
    "deepspeed Ctrl-C": ("deepspeed", to_group(signal.SIGINT), 130),
    "launch.py SIGTERM": ("deepspeed", to_launch(signal.SIGTERM), 1),
    "launch.py SIGKILL": ("deepspeed", to_launch(signal.SIGKILL), 0),
    "deepspeed rank SIGUSR1": ("deepspeed", to_rank(signal.SIGUSR1), 130),
    "torchrun SIGTERM": ("torchrun", to_launcher(signal.SIGTERM), 1),
    "torchrun Ctrl-C": ("torchrun", to_group(signal.SIGINT), 1),
    "torchrun and all SIGTERM": ("torchrun", to_all(signal.SIGTERM), 1),
    "torchrun rank SIGUSR1": ("torchrun", to_rank(signal.SIGUSR1), 1),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow if n == "deepspeed SIGTERM" else pytest.mark.soak)
        for n in STOPS
    ],
)
def test_a_signal_saves_and_no_process_stays(
    config: Path, tmp_path: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    job = start(config, tmp_path / "run", STOPS[name][0])
    job.wait_for_step(3)
    code, seconds = stop(job, name)
    record_property("code", code)
    record_property("seconds_to_end", round(seconds, 1))


def stop(job: Job, name: str) -> tuple[int, float]:
    """Send what ``STOPS`` says; the exit code, and seconds until the last process had gone."""
    _, send, expected = STOPS[name]
    send(job)
    seconds = job.wait_for_end()
    code, printed = job.end()
    status = job.status()
    assert status["state"] == "interrupted", printed[-3000:]
    assert status["checkpoint"] == f"step-{status['step']:08d}"
    assert "run.resume=auto" in printed
    assert not re.search(r'File ".*/sce_video/', printed)  # launchers print tracebacks of their own
    assert code == expected
    return code, seconds


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param("torchrun", marks=pytest.mark.slow),
        pytest.param("deepspeed", marks=pytest.mark.soak),
    ],
)
def test_a_killed_rank_ends_the_others(
    config: Path, tmp_path: Path, launcher: str, record_property: Callable[[str, object], None]
) -> None:
    job = start(config, tmp_path / "run", launcher)
    job.wait_for_step(3)
    os.kill(job.rank(1), signal.SIGKILL)
    job.wait_for_end()
    code, printed = job.end()
    record_property("code", code)
    assert code != 0
    assert "another rank has gone" in printed
    assert job.step() >= 3


SLOW_DISK = """
import os, time
fsync = os.fsync
def slow(descriptor):
    time.sleep(0.2)
    fsync(descriptor)
os.fsync = slow
"""


@pytest.mark.parametrize(
    "kills", [pytest.param(2, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.soak)]
)
def test_a_kill_at_any_moment_loses_little(config: Path, tmp_path: Path, kills: int) -> None:
    """All processes are killed while steps go on and checkpoints are written to a slow disk."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_DISK)
    rng, folder = random.Random(kills), tmp_path / "run"  # noqa: S311
    saves = ("train.save_every=1", "train.keep=1")
    reached = 0
    for _ in range(kills):
        job = start(config, folder, "python", *saves, PYTHONPATH=str(tmp_path))
        job.wait_for_step(reached + 3 * INTERVAL)  # two were begun
        time.sleep(rng.uniform(0, 2))
        job.kill()
        _, printed = job.end()
        assert "passing over" not in printed
        _, state = checkpoint.newest(folder / "checkpoints")
        reached = state["step"]
        # A save waits for the one before: one interval is lost, and a second one while it writes.
        assert job.step() - reached <= 2 * INTERVAL


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_ends_the_run(config: Path, tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))

    job = start(config, tmp_path / "run", "python", "train.save_every=1", preexec=small_files)
    job.wait_for_end(120)
    code, printed = job.end()
    assert code == 1
    line = printed.strip().splitlines()[-1]
    told = r"step-00000002: cannot be written \(.*\); make room, and start it again"
    assert re.search(told, line), printed[-3000:]
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["checkpoint"] is None


@pytest.mark.slow
def test_a_killed_worker_leaves_a_checkpoint(config: Path, tmp_path: Path) -> None:
    """On the rank that lost it the next batch is missing; both finish their step and save."""
    job = start(config, tmp_path / "run", "torchrun")
    job.wait_for_step(3)
    os.kill(job.worker(1), signal.SIGKILL)
    job.wait_for_end()
    code, printed = job.end()
    assert code == 1
    assert "another rank has no more clips" in printed
    status = job.status()
    assert status["state"] == "failed"
    assert status["step"] == job.step() >= 3
    log = (tmp_path / "run" / "run.log").read_text()
    assert "rank 1: failed: a process that makes clips was killed" in log


@pytest.mark.parametrize(
    "steps", [pytest.param(40, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.soak)]
)
def test_workers_killed_at_random(
    config: Path, tmp_path: Path, steps: int, record_property: Callable[[str, object], None]
) -> None:
    """Each time the run ends by itself, saved, with a line; it goes on until so many are done."""
    rng, folder = random.Random(steps), tmp_path / "run"  # noqa: S311
    settings = ("data.workers=2", f"run.max_steps={steps}", "train.save_every=1")
    first, kills, most = 0, 0, 0
    while True:
        job = start(config, folder, "python", *settings)
        after = job.step() + rng.randint(steps // 10, steps // 3)
        if after >= steps - steps // 10:  # it might end before the kill
            break
        job.wait_for_step(after, limit=400)
        first = first or job.memory()
        most = max(most, job.memory())
        servers = [pid for pid in job.processes() if parent(pid) == job.process.pid]
        workers = [pid for pid in job.processes() if parent(pid) in servers]
        os.kill(rng.choice(workers), signal.SIGKILL)
        job.wait_for_end()
        code, printed = job.end()
        assert code == 1
        assert "a process that makes clips was killed (SIGKILL)" in printed.splitlines()[-1]
        status = job.status()
        assert status["state"] == "failed"
        assert int(str(status["step"])) == job.step() >= after
        kills += 1
    job.wait_for_end(600)
    code, printed = job.end()
    record_property("kills", kills)
    record_property("grown_bytes", most - first)
    assert code == 0, printed[-3000:]
    assert (job.step(), job.status()["state"]) == (steps, "done")
    assert kills >= 2
    assert most - first < 100e6


HUNG = f"""
import os, sys, time
if "multiprocessing.forkserver" in " ".join(sys.orig_argv):
    sys.path.insert(0, {str(REPOSITORY)!r})
    import sce_video.stream.cut as cut
    make, made = cut.make_clips, []
    def hang(*args, **options):
        made.append(1)
        while len(made) > 60 and os.environ.get("RANK", "0") == os.environ["HANGS"]:
            time.sleep(1)
        return make(*args, **options)
    cut.make_clips = hang
"""
"""A decoder that never comes back after 60 samples, in the workers of one rank."""


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        pytest.param("python SIGTERM", 0, marks=pytest.mark.slow),
        pytest.param("torchrun and all SIGTERM", 1, marks=pytest.mark.slow),
        *(
            pytest.param(name, 1, marks=pytest.mark.soak)
            for name in ("torchrun SIGTERM", "deepspeed Ctrl-C", "deepspeed SIGTERM")
        ),
        pytest.param("python Ctrl-C", 0, marks=pytest.mark.soak),
        pytest.param("python SIGUSR1", 0, marks=pytest.mark.soak),
    ],
)
def test_a_signal_ends_a_run_whose_worker_hangs(
    config: Path, tmp_path: Path, name: str, rank: int
) -> None:
    """Saved, on all ranks, and the worker that hangs is gone, too."""
    (tmp_path / "sitecustomize.py").write_text(HUNG)
    launcher = STOPS[name][0]
    job = start(config, tmp_path / "run", launcher, PYTHONPATH=str(tmp_path), HANGS=str(rank))
    job.wait_for_step(3)
    seen, since = job.step(), time.monotonic()
    while time.monotonic() - since < 4:  # until no step has ended for so long
        if job.step() != seen:
            seen, since = job.step(), time.monotonic()
        time.sleep(0.1)
    stop(job, name)


@pytest.mark.slow
def test_the_time_ends_a_run_whose_worker_hangs(config: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HUNG)
    hours = "run.max_hours=0.006"
    job = start(config, tmp_path / "run", "python", hours, PYTHONPATH=str(tmp_path), HANGS="0")
    job.wait_for_end(120)
    code, printed = job.end()
    assert code == 130, printed[-3000:]
    assert "in time for run.max_hours=0.006" in printed
    assert job.status()["state"] == "interrupted"


@pytest.mark.parametrize(
    "steps", [pytest.param(40, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.soak)]
)
def test_memory_is_flat_until_ctrl_c(
    config: Path, tmp_path: Path, steps: int, record_property: Callable[[str, object], None]
) -> None:
    """Of all processes together, with a checkpoint every other step."""
    job = start(config, tmp_path / "run", "python", "train.save_every=1")
    job.wait_for_step(20)
    before = job.memory()
    job.wait_for_step(20 + steps, limit=400)
    grown = job.memory() - before
    record_property("grown_bytes", grown)
    assert grown < 25e6
    stop(job, "python Ctrl-C")


@pytest.mark.soak
@pytest.mark.parametrize("launcher", ["deepspeed", "torchrun"])
def test_two_machines_make_one_run(config: Path, tmp_path: Path, launcher: str) -> None:
    """Two launchers on this machine, as they would run on two."""
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=1\n127.0.0.1 slots=1\n")
    port = free_port()
    ways = {
        "deepspeed": ["--hostfile", str(hosts), "--no_ssh", "--node_rank", "{}"],
        "torchrun": ["--nnodes", "2", "--nproc-per-node", "1", "--node-rank", "{}"],
    }
    meet = ["--master_addr", "127.0.0.1", "--master_port", port]
    jobs = [
        Job(
            [str(BIN / launcher), *(word.format(node) for word in ways[launcher]), *meet, TRAIN],
            tmp_path / "run",
            "--config",
            str(config),
            "run.max_steps=3",
        )
        for node in range(2)
    ]
    for job in jobs:
        job.wait_for_end(200)
        code, printed = job.end()
        assert code == 0, printed[-3000:]
    status = jobs[0].status()
    assert (status["state"], status["step"], status["checkpoint"]) == ("done", 3, "step-00000003")
    assert "rank 1" not in (tmp_path / "run" / "run.log").read_text()  # nothing went wrong there
    assert "2 rank(s)" in (tmp_path / "run" / "run.log").read_text()


TWO_NETWORKS = """
ip link set lo up
unshare --net sleep 300 & other=$!
sleep 0.5
ip link add node0 type veth peer name node1 netns $other
ip addr add 10.99.0.1/24 dev node0; ip link set node0 up
inside="nsenter --net=/proc/$other/ns/net"
$inside ip addr add 10.99.0.2/24 dev node1; $inside ip link set node1 up; $inside ip link set lo up
GLOO_SOCKET_IFNAME=node0 $LAUNCH 0 $JOB > node0.log 2>&1 & first=$!
GLOO_SOCKET_IFNAME=node1 $inside $LAUNCH 1 $JOB > node1.log 2>&1; second=$?
wait $first && exit $second
"""
"""Two network namespaces joined by one cable; a launcher in each."""


@pytest.mark.soak
@pytest.mark.parametrize("launcher", ["deepspeed", "torchrun"])
def test_two_networks_make_one_run(config: Path, tmp_path: Path, launcher: str) -> None:
    """Each launcher has an address and interfaces of its own."""
    apart = ["unshare", "--user", "--map-root-user", "--net", "--kill-child", "sh", "-c"]
    if subprocess.run([*apart, "ip link"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here")
    (tmp_path / "hosts").write_text("10.99.0.1 slots=1\n10.99.0.2 slots=1\n")
    ways = {
        "deepspeed": "--hostfile hosts --no_ssh --master_addr 10.99.0.1 --node_rank",
        "torchrun": "--nnodes 2 --nproc-per-node 1 --master-addr 10.99.0.1 --node-rank",
    }
    job = f"{TRAIN} --config {config} run.dir={tmp_path / 'run'} run.max_steps=3"
    made = subprocess.run(
        [*apart, TWO_NETWORKS],
        env=environment(LAUNCH=f"{BIN / launcher} {ways[launcher]}", JOB=job),
        cwd=tmp_path,
        timeout=240,
        check=False,
    )
    printed = "".join((tmp_path / f"node{n}.log").read_text()[-2000:] for n in (0, 1))
    assert made.returncode == 0, printed
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "done"
    assert "2 rank(s)" in (tmp_path / "run" / "run.log").read_text()


@pytest.mark.soak
def test_two_jobs_of_one_machine_do_not_collide(config: Path, tmp_path: Path) -> None:
    """Both with the port that ``deepspeed`` gives when none is asked for."""
    jobs = [start(config, tmp_path / name, "deepspeed", "run.max_steps=3") for name in "ab"]
    for job in jobs:
        job.wait_for_end(240)
        code, printed = job.end()
        assert code == 0, printed[-3000:]
        assert "2 rank(s)" in printed
