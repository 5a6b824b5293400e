"""Front door of training: ``deepspeed sce_video/train.py [--config FILE] [key=value ...]``.

The same under ``torchrun``, ``python -m sce_video.train`` and ``python sce_video/train.py``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __package__ in (None, ""):
    # Run as a file: make the package importable, installed or not, and keep its modules from
    # standing in for the standard library's.
    _here = Path(__file__).resolve().parent
    _others = [p for p in sys.path if Path(p or ".").resolve() not in (_here, _here.parent)]
    sys.path[:] = [str(_here.parent), *_others]

import argparse
import logging
import socket
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from sce_video.arguments import Parser, whole
from sce_video.engine.ranks import check_launcher, place, prints
from sce_video.errors import UsageError
from sce_video.terminal import say, unread

if TYPE_CHECKING:
    from sce_video.config.tasks import AnyConfig
    from sce_video.engine.resume import Resume
    from sce_video.engine.run_folder import RunFolder

log = logging.getLogger("sce_video")

DEFAULT_CONFIG = "pretrain/sce_k400_r2plus1d_18.yaml"


def train(config: AnyConfig, *, claimed: bool = False) -> None:
    """Train; what can be wrong with data and folder is checked before any rank waits for another.

    Args:
        config: of the run.
        claimed: ``run.dir`` is the caller's own, whatever is in it.
    """
    # Read when torch is imported: threads that spin at barriers starve the clips' workers.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from sce_video.engine.run_folder import RunFolder
    from sce_video.engine.signals import watch_launcher

    watch_launcher()
    folder = RunFolder(Path(config.run.dir))
    # One process of all writes; the others see the same files, and need no lock to read them.
    held = folder.held(config.run.resume, claimed=claimed)
    with held if place().rank == 0 else nullcontext():
        _train_in(folder, config)


def _train_in(folder: RunFolder, config: AnyConfig) -> None:
    """Train in a folder that is held."""
    from sce_video.config.tasks import PretrainConfig
    from sce_video.engine.resume import find_resume, last_step, nothing_to_do
    from sce_video.stream.data import open_data, open_held_out
    from sce_video.stream.loader import start_fork_server

    here = place()
    index, plan = open_data(config, here.rank, here.ranks)
    resume, done = None, None
    if here.rank == 0:  # what it finds, holding the folder, counts for all
        resume = find_resume(folder, config, plan)
        done = resume and nothing_to_do(folder, resume, last_step(config, plan))
    watched = open_held_out(config, plan, index)
    if config.data.workers and config.data.decode != "cuda":
        start_fork_server()

    import torch

    from sce_video.engine.clip_task import ClipTask, find_start
    from sce_video.engine.loop import Trainer
    from sce_video.engine.pretrain import PretrainTask
    from sce_video.engine.preview import describe
    from sce_video.engine.runtime import agree, share, start_runtime, stop_runtime
    from sce_video.engine.supervised import SupervisedTask
    from sce_video.evals.online import watch

    # Before there are other ranks: what the main one alone does must not wait for the others.
    start, header, cuda = None, "", torch.cuda.is_available()
    if here.rank == 0:
        start = None if resume else find_start(config)
        header = describe(config, plan, cuda=cuda, resume=resume)
    runtime = start_runtime(config.data.workers)
    try:
        resume, done, digest = share((resume, done, plan.digest))
        if done:
            if runtime.main:
                _tell(done)
            return
        agree(runtime, _unlike(folder, config, resume, plan.digest == digest))
        folder.log_to(runtime)
        start = start or (None if resume else find_start(config))
        pretraining = isinstance(config, PretrainConfig)
        kind: type[ClipTask] = PretrainTask if pretraining else SupervisedTask
        task = kind(config, index, plan, runtime, start)
        evaluation = watch(task, watched, runtime) if watched else None
        if runtime.main:
            _tell(*header.splitlines())
            log.info("this run\n%s", header, extra={"file_only": True, "lines": True})
        Trainer(task, evaluation, folder=folder, resume=resume).run()
        if runtime.main:
            log.info("done", extra={"file_only": True})
            head = "" if pretraining else "classifier.safetensors, "
            _tell(f"done: {config.run.dir} ({head}encoder.safetensors, metrics.jsonl)")
    finally:
        stop_runtime()


def _tell(*lines: str) -> None:
    """Say them; a training whose output nobody can read goes on."""
    with unread():
        say(*lines)


def _unlike(
    folder: RunFolder, config: AnyConfig, resume: Resume | None, same_data: bool
) -> str | None:
    """What this rank does not have as the main one has it; None = nothing."""
    where = f"rank {place().rank} on {socket.gethostname()}"
    shared = "must be the same on all machines"
    if not same_data:
        return f"data.shards={config.data.shards}: {where} reads another set; it {shared}"
    if resume and not (folder.checkpoints / resume.checkpoint).is_dir():
        return f"{folder.path}: {where} sees no {resume.checkpoint}; run.dir {shared}"
    return None


def main(argv: Sequence[str] | None = None, prog: str = "train.py") -> int:
    """Run with command-line arguments; returns the exit code. Only rank 0 prints errors."""
    parser = Parser(
        prog=prog,
        description="Train on shards through DeepSpeed: pretrain an encoder without labels, train "
        "a linear layer on it, or fine-tune it.",
    )
    add = parser.add_argument
    add("--config", default=DEFAULT_CONFIG, help="a file, or a name below configs/")
    add("overrides", nargs="*", metavar="key=value", help="e.g. optim.lr=0.1")
    add("--dry-run", action="store_true", help="print the plan, touch nothing")
    add("--gpus", type=whole(1), metavar="N", help="plan for N (default: as here)")
    add("--samples", type=whole(1), metavar="N", help="plan for an epoch of N")
    add("--local_rank", help=argparse.SUPPRESS)  # the deepspeed launcher's
    return parser.run(argv, _train, quiet=not prints(), intermixed=True)


def _train(args: argparse.Namespace) -> None:
    from sce_video.engine.run_folder import RunFolder
    from sce_video.engine.start import load_run

    check_launcher(meet=True)
    config = load_run(args.config, args.overrides)
    RunFolder(Path(config.run.dir)).check(config.run.resume)
    if args.dry_run:
        if place().rank == 0:
            from sce_video.engine.preview import explain

            say(*explain(config, args.samples, args.gpus).splitlines())
        return
    if args.gpus or args.samples:
        raise UsageError("--gpus and --samples go with --dry-run")
    train(config)


if __name__ == "__main__":
    sys.exit(main())
