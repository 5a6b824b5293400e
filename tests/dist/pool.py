"""Ranks of small jobs, forked from one process that has imported everything."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any
from unittest.mock import patch

_LIMIT = 240.0  # seconds a job may take
_GRACE = 10.0  # seconds in which the others end by themselves where one has failed


class RankPool:
    """Runs ``job(*arguments)`` on a number of ranks; every job starts from fresh processes.

    Importing torch and deepspeed costs seconds, forking milliseconds.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there,))
        self._process.start()
        there.close()

    def __enter__(self) -> RankPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._here.send(None)  # a process that another test started may hold the pipe open
        self._process.join()

    def run(self, ranks: int, job: Callable[..., None], *arguments: Any) -> None:
        """Run on ``ranks`` ranks; raises AssertionError with the first one's traceback."""
        self._here.send((ranks, job, arguments))
        problem: str | None = self._here.recv()
        assert problem is None, problem


def _serve(pipe: Connection) -> None:
    import deepspeed.runtime.zero.muon.muon_optimizer  # all that deepspeed imports lazily
    import deepspeed.runtime.zero.stage3
    import deepspeed.runtime.zero.stage_1_and_2  # noqa: F401

    import sce_video.engine.loop
    import sce_video.engine.pretrain
    import sce_video.engine.supervised  # noqa: F401

    for ranks, job, arguments in iter(pipe.recv, None):
        with tempfile.TemporaryDirectory() as folder:
            pipe.send(_run(ranks, Path(folder) / "store", job, arguments))


def _run(
    ranks: int, store: Path, job: Callable[..., None], arguments: tuple[Any, ...]
) -> str | None:
    """The first problem, or None. Ranks meet at a file: a port may be taken meanwhile."""
    context = multiprocessing.get_context("fork")
    problems = context.SimpleQueue()
    processes = [
        context.Process(target=_rank, args=(rank, ranks, store, problems, job, arguments))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    deadline = time.monotonic() + _LIMIT
    running: dict[Any, Any] = {process.sentinel: process for process in processes}
    failed = False
    while running and not failed:
        ended = wait(list(running), max(0.0, deadline - time.monotonic()))
        for sentinel in ended:
            running[sentinel].join()  # its exit code may come later than its end
            failed |= running.pop(sentinel).exitcode != 0
        failed |= not ended
    wait_until = time.monotonic() + _GRACE * failed
    for process in processes:
        process.join(max(0.0, wait_until - time.monotonic()))
        process.kill()  # those that wait for one that failed
        process.join()
    if not failed:
        return None
    return "no rank said why" if problems.empty() else str(problems.get())


def _rank(
    rank: int, ranks: int, store: Path, problems: Any, job: Callable[..., None], arguments: Any
) -> None:
    import torch
    from torch.distributed import FileStore

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks))
    os.environ.update(LOCAL_WORLD_SIZE=str(ranks))
    patch("sce_video.engine.runtime._store", lambda *_: FileStore(str(store), ranks)).start()
    torch.set_num_threads(1)
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what matters comes back by the queue
        os.dup2(silent, stream)
    try:
        job(*arguments)
    except BaseException:  # noqa: BLE001
        problems.put(f"rank {rank} of {ranks}: {traceback.format_exc()}")
        os._exit(1)
    os._exit(0)


def small_config(folder: Path, **sections: dict[str, Any]) -> Any:
    """A whole pretraining that takes milliseconds a step; see :func:`pretrain`."""
    from sce_video.config.tasks import PretrainConfig

    tree: dict[str, dict[str, Any]] = {
        "run": {"dir": str(folder), "seed": 1},
        "data": {"shards": "none", "workers": 0},
        "clip": {"frames": 4, "seconds": 0.6, "size": 16},
        "augment": {"recipe": "crop_flip"},
        "model": {"projector": {"hidden": 33, "dim": 15}, "predictor": {"hidden": 21}},
        "objective": {"queue": 100, "temp": 0.5, "temp_m": 0.3},
        "optim": {"lr": 2.0, "lr_scaling": "none", "warmup_epochs": 0.5},
        "train": {"epochs": 5, "batch_size": 36, "save_every": 100},
        "track": {"wandb": "off", "every": 1},
    }
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return PretrainConfig.model_validate(tree)


def supervised_config(folder: Path, task: str, **sections: dict[str, Any]) -> Any:
    """Its like with labels; see :func:`supervise`."""
    from sce_video.config.tasks import SupervisedConfig

    tree: dict[str, Any] = {
        "task": task,
        "run": {"dir": str(folder), "seed": 1},
        "data": {"shards": "none", "workers": 0},
        "clip": {"frames": 4, "seconds": 0.6, "size": 16},
        "augment": {"recipe": "video_linear"},
        "optim": {"name": "sgd", "lr": 0.3, "lr_scaling": "none", "warmup_epochs": 0},
        "train": {"epochs": 5, "batch_size": 36, "save_every": 100},
        "track": {"wandb": "off", "every": 1},
    }
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return SupervisedConfig.model_validate(tree)


def pretrain(config: Any, change: Callable[[Any], None] | None = None, index: Any = None) -> None:
    """The real trainer and task on made clips and a small network, after a ``change`` to it."""
    from sce_video.engine.pretrain import PretrainTask

    def prepare(module: Any) -> None:
        condition(module)
        if change:
            change(module)
        if module.momentum:
            module.momentum.load_state_dict(module.online.state_dict())

    _train(config, PretrainTask, index, prepare)


def supervise(config: Any, change: Callable[[Any], None] | None = None) -> None:
    """The same with labels, of three classes."""
    from sce_video.engine.supervised import SupervisedTask

    def prepare(module: Any) -> None:
        if not config.run.init_from:
            condition(module)
        if change:
            change(module)

    classes = SimpleNamespace(manifest=SimpleNamespace(classes=("a", "b", "c")))
    _train(config, SupervisedTask, classes, prepare)


def _train(config: Any, kind: Any, index: Any, prepare: Callable[[Any], None]) -> None:
    import numpy as np
    import torch

    from sce_video.engine.clip_task import find_start
    from sce_video.engine.loop import Trainer
    from sce_video.engine.resume import find_resume
    from sce_video.engine.run_folder import RunFolder
    from sce_video.engine.runtime import start_runtime, stop_runtime
    from sce_video.stream.loader import ClipBatch
    from sce_video.stream.order import BatchPlan

    def batches(task: Any, consumed: int) -> Any:
        for positions in task.plan.micro_batches(consumed):
            rows = np.array([p.row for p in positions])
            views = range(config.views)
            yield ClipBatch(
                views=[torch.stack([clip(int(row), view) for row in rows]) for view in views],
                rows=rows,
                epochs=np.array([p.epoch for p in positions]),
                labels=torch.from_numpy(rows % 3),
            )

    patch.object(kind, "batches", batches).start()
    patch("sce_video.model.encoder.build_trunk", lambda name, width: small_trunk()).start()
    runtime, folder = start_runtime(workers=0), RunFolder(Path(config.run.dir))
    folder.log_to(runtime)
    torch.set_num_threads(1)
    plan = BatchPlan(
        rows=np.arange(144),
        shard_of=np.zeros(144, np.int64),
        digest=hashlib.sha256(b"made").hexdigest(),
        seed=config.run.seed,
        epochs=config.train.epochs,
        batch_size=config.train.batch_size,
        accumulate=config.train.accumulate,
        rank=runtime.rank,
        ranks=runtime.ranks,
    )
    resume = find_resume(folder, config, plan)
    task = kind(config, index, plan, runtime, None if resume else find_start(config))
    prepare(task.module)
    try:
        Trainer(task, folder=folder, resume=resume).run()
    finally:
        stop_runtime()


def condition(module: Any) -> None:
    """Keep rounding errors as small as they are made, in the online branch of a Siamese network.

    Tanh for ReLU: one unit that rounding makes flip its sign is a difference of 1e-5, and means
    that the next BN subtracts again cost digits. BN biases that are not learned from 0: relative to
    what is near 0, all differences are large.
    """
    from torch import nn

    for name, child in module.named_children():
        if isinstance(child, nn.ReLU):
            setattr(module, name, nn.Tanh())
        elif getattr(child, "bias", None) is not None:
            nn.init.uniform_(child.bias, -0.5, 0.5)
        condition(child)


def clip(row: int, view: int) -> Any:
    """``[4,3,16,16]`` uint8: a colour of the row's own, with noise of the view's."""
    import torch
    from torch.nn import functional as F

    colour = torch.rand(1, 3, 1, 1, generator=torch.Generator().manual_seed(row))
    noise = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(1000 * view + row))
    return (F.interpolate((colour + noise) / 2, size=16) * 255).to(torch.uint8)


def small_trunk() -> Any:
    """Two convolutions and BN; odd widths, so that no shard ends where a parameter does."""
    from torch import nn

    class Trunk(nn.Sequential):
        features = 13

        def forward(self, clip: Any) -> Any:
            # Alone a rank takes torch's BN, which on a CPU loses a digit where channels are last.
            return super().forward(clip.contiguous())  # type: ignore[no-untyped-call]

    return Trunk(
        nn.Conv3d(3, 7, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm3d(7),
        nn.Tanh(),
        nn.Conv3d(7, 13, 3, stride=(1, 2, 2), padding=1, bias=False),
        nn.Tanh(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
    )
