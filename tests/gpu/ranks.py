"""Ranks of small jobs in processes of their own: what CUDA has touched cannot be forked."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from tests.dist.pool import _rank, pretrain
from tests.ffmpeg_libraries import link_libraries

_LIMIT = 180.0  # seconds a job may take
NONDETERMINISTIC = "nondeterministic.json"  # in a run's folder: what torch said of its ops


class FreshRanks:
    """Runs ``job(*arguments)`` on a number of ranks; every job starts from fresh processes.

    Importing torch and deepspeed costs seconds: a spare process does so while a job runs.
    """

    def __init__(self, folder: Path) -> None:
        """``folder``: empty, for links to the libraries that torchcodec looks for."""
        self._libraries = _library_path(folder)
        self._spare = [self._start()]

    def close(self) -> None:
        """End the spare process."""
        for process, pipe in self._spare:
            pipe.close()
            process.join()

    def run(self, ranks: int, job: Callable[..., None], *arguments: Any) -> None:
        """Run on ``ranks`` ranks; raises AssertionError with the first one's traceback."""
        while len(self._spare) < ranks:
            self._spare.append(self._start())
        taken, self._spare = self._spare[:ranks], self._spare[ranks:]
        with TemporaryDirectory() as folder:
            for rank, (_, pipe) in enumerate(taken):
                pipe.send((rank, ranks, Path(folder) / "store", job, arguments))
            self._spare.append(self._start())
            try:
                problem = _first_problem(taken)
            finally:
                for process, _ in taken:
                    process.kill()  # those that wait for one that failed
                    process.join()
        assert problem is None, problem

    def _start(self) -> tuple[Any, Connection]:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there,))
        with patch.dict(os.environ, LD_LIBRARY_PATH=self._libraries):  # read when it starts
            process.start()
        there.close()
        return process, here


def _library_path(folder: Path) -> str:
    """FFmpeg's libraries where PyAV's wheel has them, and those of the CUDA wheels."""
    import torch

    found = [str(linked)] if (linked := link_libraries(folder)) else []
    found += map(str, (Path(torch.__file__).parent.parent / "nvidia").glob("*/lib"))
    return ":".join([*found, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])


def _serve(pipe: Connection) -> None:
    import deepspeed.runtime.zero.stage3
    import deepspeed.runtime.zero.stage_1_and_2  # noqa: F401

    import sce_video.engine.loop
    import sce_video.engine.pretrain  # noqa: F401

    try:
        rank, ranks, store, job, arguments = pipe.recv()
    except EOFError:  # it was not needed
        return
    _rank(rank, ranks, store, SimpleNamespace(put=pipe.send), job, arguments)


def _first_problem(taken: list[tuple[Any, Connection]]) -> str | None:
    """Wait until all are done, or one is not: what it says."""
    deadline = time.monotonic() + _LIMIT
    running = {process.sentinel: (process, pipe) for process, pipe in taken}
    while running:
        ended = wait(list(running), max(0.0, deadline - time.monotonic()))
        if not ended:
            return f"not done after {_LIMIT:.0f} s"
        for sentinel in ended:
            process, pipe = running.pop(sentinel)
            process.join()
            if process.exitcode != 0:
                try:
                    return str(pipe.recv())
                except EOFError:
                    return f"a rank ended with {process.exitcode} and did not say why"
    return None


@contextmanager
def same_numbers() -> Iterator[list[warnings.WarningMessage]]:
    """Torch computes the same numbers each time, with all digits of fp32; what it warned of.

    An op that has no such algorithm is a warning and not an error: what comes of it is the tests'
    to see.
    """
    import torch

    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    all_digits()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield said


def all_digits() -> None:
    """TF32, which drops 13 bits of each factor, is off for products and convolutions."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def pretrain_alike(config: Any) -> None:
    """The pool's training, the same each time."""
    with same_numbers() as said:
        pretrain(config)
    names = sorted(
        {str(w.message).split("\n")[0][:160] for w in said if "determin" in str(w.message)}
    )
    (Path(config.run.dir) / NONDETERMINISTIC).write_text(json.dumps(names))


def pretrain_on_one_device(config: Any) -> None:
    """The same of ranks that share device 0: NCCL refuses them, gloo does not."""
    import torch.distributed as dist

    os.environ["LOCAL_RANK"] = "0"
    start = dist.init_process_group
    patch.object(dist, "init_process_group", lambda _, **how: start("gloo", **how)).start()
    pretrain_alike(config)
