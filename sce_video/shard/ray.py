"""The pool of :mod:`sce_video.shard.pool` on a Ray cluster: one actor a worker.

An actor runs its jobs in a killable process of its own, so that crashes, hangs and limits mean what
they mean on one machine. Ray starts an actor again, and its job, when the actor or its node dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sce_video.errors import SceVideoError, UsageError, first_line
from sce_video.shard.pool import Job, Pool, Result

_TRIES = 4  # how often a job may lose its actor


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would phone home
    try:
        import ray
    except ImportError as error:
        raise UsageError("--executor ray needs Ray: pip install 'sce-video[ray]'") from error
    return ray


@dataclass(eq=False)
class RayPool(Pool[Job, Result]):
    """:class:`Pool` whose workers are Ray actors; inside :func:`cluster`."""

    _ray: Any = field(default_factory=_import_ray, init=False)
    _actors: list[Any] = field(default_factory=list, init=False)
    _idle: list[Any] = field(default_factory=list, init=False)
    _running: dict[Any, tuple[int, Any]] = field(default_factory=dict, init=False)
    """What is awaited -> number of the job (-1 = the actor's start) and its actor."""

    def _feed(self, oldest: int) -> None:
        if not self._actors:
            self._start_actors(min(self.workers, len(self._jobs)))
        while self._idle and self._is_due(oldest):
            actor, number = self._idle.pop(), self._waiting.popleft()
            self._running[actor.run.remote(self._jobs[number])] = (number, actor)

    def _collect(self, *, block: bool = True) -> None:
        if not self._running:
            return
        count, patience = (1, None) if block else (len(self._running), 0)
        ready, _ = self._ray.wait(list(self._running), num_returns=count, timeout=patience)
        for answer in ready:
            number, actor = self._running.pop(answer)
            self._idle.append(actor)
            what = "the start of a worker" if number < 0 else self.name(self._jobs[number])
            try:
                ok, result = self._ray.get(answer)
            except self._ray.exceptions.RayError as error:
                why = str(error).strip().splitlines()[-1]
                raise SceVideoError(f"{what}: lost its Ray actor {_TRIES} times: {why}") from error
            if not ok:
                raise SceVideoError(result)
            if number >= 0:
                self._done[number] = result

    def _start_actors(self, count: int) -> None:
        options = {"num_cpus": 1, "max_restarts": -1, "max_task_retries": _TRIES - 1}
        runner = self._ray.remote(**options)(_Runner)
        pool = {"wall_limit": self.wall_limit, "name": self.name, "on_death": self.on_death}
        self._actors = [runner.remote(self.function, pool) for _ in range(count)]
        # One that waits for a free CPU has not answered: it gets no job.
        self._running = {actor.ready.remote(): (-1, actor) for actor in self._actors}

    def __exit__(self, *error: object) -> None:
        for answer in self._running:
            self._ray.cancel(answer)  # or it would be tried again
        for actor in self._actors:
            self._ray.kill(actor)
        for kept in (self._actors, self._idle, self._running):
            kept.clear()


class _Runner:
    """Body of an actor."""

    def __init__(self, function: Callable[[Any], Any], options: dict[str, Any]) -> None:
        self._pool: Pool[Any, Any] = Pool(function, workers=1, **options)

    def ready(self) -> tuple[bool, Any]:
        return True, None

    def run(self, job: Any) -> tuple[bool, Any]:
        try:
            [result] = self._pool.map([job])
        except SceVideoError as error:
            return False, str(error)
        return True, result


@contextlib.contextmanager
def cluster() -> Iterator[int]:
    """Connect to the Ray cluster (``RAY_ADDRESS``), or start one here; yields its CPUs.

    Raises:
        UsageError: Ray is not installed, or the cluster does not answer.
    """
    ray = _import_ray()
    ours = not ray.is_initialized()
    if ours:
        try:
            _knock(os.environ.get("RAY_ADDRESS", ""))
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError, OverflowError) as error:
            where = f"$RAY_ADDRESS={os.environ.get('RAY_ADDRESS', '')}"
            what = f"{where}: no Ray cluster answers there: {first_line(error)}"
            raise UsageError(what) from error
    try:
        yield max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself tries for minutes where nobody listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=20.0).close()
