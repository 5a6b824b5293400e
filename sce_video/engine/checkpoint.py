"""What a checkpoint is: full tensors by name, independent of ZeRO stage and number of ranks.

``checkpoints/step-00000100/`` holds ``model.safetensors``, ``optimizer.safetensors``,
``state.json`` and ``manifest.json`` with the sha256 of each; it appears by one rename. Whether one
is whole says ``checkpoint_check.py``; when one is made is in ``checkpoint_saver.py``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sce_video.engine.checkpoint_check import (
    MANIFEST,
    MODEL,
    OPTIMIZER,
    STATE,
    BadCheckpointError,
    read_state,
    unlike,
)
from sce_video.engine.status import saved_steps, way_on
from sce_video.engine.zero_layout import Segment, gathered
from sce_video.errors import SceVideoError, complain, first_line
from sce_video.files import FULL, flush, sha256_file, whole_file, write_whole

Files = dict[str, dict[str, Tensor]]
"""Tensors of a checkpoint by name, by the name of their file."""


def full_state(engine: Any, segments: list[Segment]) -> Files:
    """What :func:`save` takes on rank 0, copied to the CPU; a collective call."""
    return {MODEL: _model_state(engine), OPTIMIZER: _optimizer_state(engine, segments)}


def _model_state(engine: Any) -> dict[str, Tensor]:
    """Full tensors of the module by name, on rank 0."""
    with gathered(engine.module):
        if dist.get_rank() > 0:  # only rank 0 writes them
            return {}
        tensors: dict[str, Tensor] = engine.module.state_dict()
        return {k: t.detach().to("cpu", copy=True).contiguous() for k, t in tensors.items()}


def _optimizer_state(engine: Any, segments: list[Segment]) -> dict[str, Tensor]:
    """Full optimizer state ``{"param/state": tensor}``."""
    state = _inner(engine).state
    sharded = engine.zero_optimization_stage() > 0
    full: dict[str, Tensor] = {}
    kinds = sorted({key for buffer in state.values() for key in buffer})
    for name, parameter in engine.module.named_parameters():
        if not parameter.requires_grad:
            continue
        for kind in kinds:
            mine = [s for s in segments if s.name == name and kind in state[s.buffer]]
            shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO-3's is empty
            whole = torch.zeros(shape, device=engine.device)
            for segment in mine:
                value = state[segment.buffer][kind]
                part = segment.buffer_part(value) if value.dim() else value
                segment.param_part(whole).copy_(part)
            if sharded:
                dist.all_reduce(whole)
            full[f"{name}/{kind}"] = whole.cpu()
    return full


def _inner(engine: Any) -> torch.optim.Optimizer:
    """Our optimizer, which ZeRO wraps."""
    zero = engine.zero_optimization_stage() > 0
    inner: torch.optim.Optimizer = engine.optimizer.optimizer if zero else engine.optimizer
    return inner


def restore(engine: Any, segments: list[Segment], folder: Path) -> None:
    """Load weights, buffers and optimizer state from a verified checkpoint; a collective call.

    Raises:
        SceVideoError: on all ranks, where its tensors are not the network's.
    """
    model, full = _tensors(folder / MODEL), _tensors(folder / OPTIMIZER)
    with gathered(engine.module, modified=True):
        problem = unlike(model, engine.module.state_dict())
        if problem is None:
            engine.module.load_state_dict(model)
    _check(folder / MODEL, problem)
    _check(folder / OPTIMIZER, unlike(full, _optimizer_shapes(engine, full)))
    inner = _inner(engine)
    with torch.no_grad():
        for segment in segments:
            master = segment.buffer_part(segment.buffer)
            master.copy_(segment.param_part(model[segment.name]))
            for key in (k for k in full if k.rpartition("/")[0] == segment.name):
                kind = key.rpartition("/")[2]
                value = segment.param_part(full[key]).to(engine.device)
                state = inner.state[segment.buffer]
                if kind == "step":  # a counter, the same for every element
                    state[kind] = value[0].cpu()
                    continue
                if kind not in state:
                    state[kind] = torch.zeros_like(segment.buffer)
                segment.buffer_part(state[kind]).copy_(value)


def _optimizer_shapes(engine: Any, full: dict[str, Tensor]) -> dict[str, Any]:
    """Of the kinds of state that are in ``full``, what :func:`_optimizer_state` makes."""
    kinds = {key.rpartition("/")[2] for key in full}
    return {
        f"{name}/{kind}": SimpleNamespace(shape=getattr(p, "ds_shape", p.shape), dtype=torch.float)
        for name, p in engine.module.named_parameters()
        if p.requires_grad
        for kind in kinds
    }


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise _not_ours(file, first_line(error)) from error


def _check(file: Path, problem: str | None) -> None:
    if problem:
        raise _not_ours(file, problem)


def _not_ours(file: Path, problem: str) -> SceVideoError:
    return SceVideoError(
        f"{file}: holds other tensors than the network of this run ({problem}); delete "
        f"{file.parent} to go on from an older one, or start another run with run.dir=..."
    )


def save(folder: Path, files: Files, state: dict[str, Any], keep: int, milestones: int = 0) -> None:
    """Write a checkpoint on the main rank and drop the oldest beyond ``keep``.

    Args:
        folder: ``runs/NAME/checkpoints``.
        files: of :func:`full_state`.
        state: JSON values; ``step`` names the checkpoint.
        keep: newest ones to keep.
        milestones: those of every so many steps are kept besides; 0 = none.

    Raises:
        SceVideoError: it cannot be written. The older ones are as they were.
    """
    final = folder / f"step-{state['step']:08d}"
    try:
        _write(final, files, state)
    except (OSError, SafetensorError) as error:
        number = error.errno if isinstance(error, OSError) else None
        room = "make room, and " if number in FULL else ""
        raise SceVideoError(
            f"{final}: cannot be written ({first_line(error)}); {room}{way_on(folder)}"
        ) from error
    # Later ones did not verify, or the run would have gone on from them.
    there = {step: p for step, p in saved_steps(folder).items() if step <= state["step"]}
    for step in list(there)[:-keep]:
        if not milestones or step % milestones:
            _remove(there[step])


def _write(final: Path, files: Files, state: dict[str, Any]) -> None:
    for left in final.parent.glob(".tmp-*"):  # by a run that was killed
        _remove(left)
    partial = final.parent / f".tmp-{final.name}"
    partial.mkdir(parents=True)
    try:
        _fill(partial, files, state)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # what is raised says more
        raise
    _remove(final)
    partial.rename(final)
    flush(final.parent)


def _fill(partial: Path, files: Files, state: dict[str, Any]) -> None:
    for name, tensors in files.items():
        with whole_file(partial / name) as file:
            save_file(tensors, file)
    write_whole(partial / STATE, json.dumps(state, indent=1).encode())
    sums = {name: sha256_file(partial / name) for name in (*files, STATE)}
    write_whole(partial / MANIFEST, json.dumps(sums, indent=1).encode())
    flush(partial)


def _remove(path: Path) -> None:
    """Remove a folder, or what somebody put in its place; there may be none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def newest(
    folder: Path, name: str = "step-*", *, warn: Callable[[str], object] = complain
) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint that verifies, and its state.

    Args:
        folder: ``runs/NAME/checkpoints``.
        name: of the one wanted, or a pattern of names.
        warn: is told of each one that is passed over, and why.

    Raises:
        SceVideoError: none verifies.
    """
    first = ""
    for path in reversed(saved_steps(folder).values()):
        if not path.match(name):
            continue
        try:
            return path, read_state(path)
        except BadCheckpointError as problem:
            warn(f"passing over {path}: {problem}")
            first = first or f" ({path.name}: {problem})"
    raise SceVideoError(
        f"{folder}: no {name} that verifies{first}; start again with another run.dir"
    )


def model_part(checkpoint: Path, prefix: str) -> dict[str, Tensor]:
    """Tensors of the module ``prefix`` in a verified checkpoint, by their names below it.

    Raises:
        SceVideoError: its model holds no tensors.
    """
    try:
        with safe_open(checkpoint / MODEL, framework="pt") as stream:
            names = [name for name in stream.keys() if name.startswith(f"{prefix}.")]  # noqa: SIM118
            return {name.removeprefix(f"{prefix}."): stream.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise _not_ours(checkpoint / MODEL, first_line(error)) from error
