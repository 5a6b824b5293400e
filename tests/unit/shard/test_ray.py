"""The Ray executor: the same bytes, whatever happens to its actors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sce_video.errors import EXIT_USAGE, SceVideoError
from sce_video.shard.__main__ import main
from sce_video.shard.convert import ConversionState
from sce_video.shard.pool import Pool
from sce_video.shard.ray import RayPool
from tests.conftest import REPOSITORY
from tests.unit.shard.layouts import class_folders, content, plan_of, run


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of this machine with two CPUs."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray")
    path = {"PYTHONPATH": str(REPOSITORY)}
    ray.init(address="local", num_cpus=2, include_dashboard=False, runtime_env={"env_vars": path})
    yield ray
    ray.shutdown()


class Watched(RayPool[Any, Any]):
    """Shows its actors."""

    actors: list[Any]

    def _start_actors(self, count: int) -> None:
        super()._start_actors(count)
        Watched.actors = list(self._actors)


def work(verb: str) -> str:
    """Body of the test workers."""
    if verb == "kill the actor":
        os.kill(os.getppid(), signal.SIGKILL)
    elif verb == "kill the worker":
        os.kill(os.getpid(), signal.SIGXCPU)
    elif verb == "raise":
        raise SceVideoError("why")
    return verb


@pytest.mark.parametrize("pool_type", [Pool, pytest.param(RayPool, marks=pytest.mark.slow)])
def test_deaths_and_errors_mean_what_they_mean_locally(ray: Any, pool_type: type[Any]) -> None:
    def pool() -> Pool[str, str]:
        made: Pool[str, str] = pool_type(
            work,
            workers=2,
            wall_limit=60.0,
            name=lambda job: f"file of {job}",
            on_death=lambda job, code: "too slow" if code == -signal.SIGXCPU else None,
        )
        return made

    jobs = [f"{n}" for n in range(20)]
    with pool() as running:
        answers = list(running.map([*jobs, "kill the worker", *jobs]))
        assert answers == [*jobs, "too slow", *jobs]
        assert list(running.map([])) == []
    with pool() as running, pytest.raises(SceVideoError, match=r"^file of raise: why$"):
        list(running.map([*jobs, "raise"]))
    if pool_type is RayPool:
        complaint = "^file of kill the actor: lost its Ray actor 4 times: .*$"
        with pool() as running, pytest.raises(SceVideoError, match=complaint):
            list(running.map([*jobs, "kill the actor", *jobs]))


@pytest.mark.slow
def test_the_same_bytes_with_an_actor_killed(ray: Any, tmp_path: Path, clips: Path) -> None:
    plan = plan_of(class_folders(tmp_path / "raw", clips, each=20))
    killed: list[int] = []

    def kill_one(now: ConversionState) -> None:
        if now.samples == 5 and not killed:
            killed.append(ray.get(Watched.actors[0].__ray_call__.remote(lambda self: os.getpid())))
            os.kill(killed[0], signal.SIGKILL)

    run(plan, tmp_path / "local", workers=2)
    run(plan, tmp_path / "ray", workers=2, pool_type=Watched, on_progress=kill_one)
    assert len(killed) == 1
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def test_without_a_cluster_and_without_ray(
    tmp_path: Path,
    clips: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ray")
    root = class_folders(tmp_path / "raw", clips, each=1)
    command = ["folder", "--root", str(root), "--out", str(tmp_path / "out"), "--executor", "ray"]
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    assert main(command) == EXIT_USAGE
    assert "$RAY_ADDRESS=127.0.0.1:9: no Ray cluster answers" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(command) == EXIT_USAGE
    assert capsys.readouterr().err == (
        "sce-video: --executor ray needs Ray: pip install 'sce-video[ray]'\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_local_run_does_not_import_ray(tmp_path: Path, clips: Path) -> None:
    root = class_folders(tmp_path / "raw", clips, each=1)
    code = (
        "import sys\n"
        "from sce_video.shard.__main__ import main\n"
        "if __name__ == '__main__':\n"
        f"    assert main(['folder', '--root', {str(root)!r}, '--out', 'out']) == 0\n"
        "    assert 'ray' not in sys.modules\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, check=True, timeout=120)
