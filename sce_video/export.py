"""``sce-video export``: the encoder of a run, for this package and for others."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import torch

from sce_video.config.load import load_config
from sce_video.config.tasks import AnyConfig, PretrainConfig
from sce_video.config.trunks import TRUNKS
from sce_video.engine.checkpoint import model_part, newest
from sce_video.engine.status import saved_steps
from sce_video.errors import UsageError, first_line
from sce_video.files import write_whole
from sce_video.model.encoder import EncoderSpec, build_encoder, encoder_spec, save_encoder


def export_encoder(
    run: Path,
    out: Path | None = None,
    *,
    checkpoint: str | None = None,
    branch: Literal["online", "momentum"] = "online",
    library: Literal["torchvision", "pytorchvideo"] | None = None,
) -> Path:
    """Write the encoder of a run, finished or stopped; returns the file.

    Args:
        run: a run's folder.
        out: a file, or a folder (made if it is not there); None = ``run``.
        checkpoint: name below ``RUN/checkpoints``; None = the newest that verifies.
        branch: whose trunk.
        library: None = what :func:`sce_video.load_encoder` opens. Else a ``.pth`` that holds the
            state dict alone, for that library's network without its classifier.

    Raises:
        UsageError: not a run, no such checkpoint or branch, or not the library's network.
        SceVideoError: a checkpoint that does not verify.
    """
    config = _config(run)
    spec = encoder_spec(config)
    if library:
        _check_library(spec, library)
    path = _file(out or run, branch, checkpoint, ".pth" if library else ".safetensors")
    saved, _ = newest(_checkpoints(run, checkpoint), checkpoint or "step-*")
    only_trunk = not isinstance(config, PretrainConfig) and branch == "online"
    tensors = model_part(saved, "trunk" if only_trunk else f"{branch}.trunk")
    if not tensors:
        name = config.objective.name if isinstance(config, PretrainConfig) else config.task
        raise UsageError(f"{saved}: {name} has no momentum encoder")
    with torch.device("meta"):  # without the time that fresh weights would take
        trunk = build_encoder(spec)
    try:
        trunk.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise UsageError(
            f"{saved}: is not of {run / 'config.yaml'}: {first_line(error)}"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    if library:
        file = io.BytesIO()  # on a full disk torch would say something else
        torch.save(tensors, file)
        write_whole(path, file.getvalue())
    else:
        save_encoder(path, trunk, spec)
    return path


def _config(run: Path) -> AnyConfig:
    file = run / "config.yaml"
    if not file.is_file():
        raise UsageError(f"{run}: not a run's folder, it has no config.yaml")
    return load_config(str(file))


def _checkpoints(run: Path, name: str | None) -> Path:
    folder = run / "checkpoints"
    names = [path.name for path in saved_steps(folder).values()]
    if not names:
        raise UsageError(f"{run}: has no checkpoint yet")
    if name and name not in names:
        raise UsageError(f"{folder}: no {name}; there are {', '.join(names)}")
    return folder


def _check_library(spec: EncoderSpec, library: str) -> None:
    known = TRUNKS[spec.trunk]
    if spec.colour == "lab":
        why = "the encoder is two trunks, of lightness and of colour"
    elif not known.same or known.whose != library:
        why = f"{spec.trunk} is {known.whose if known.same else 'no other library'}'s"
    elif spec.width != 64:
        why = (
            f"its {spec.trunk} has width 64, not {spec.width}; the names of the layers are the same"
        )
    else:
        return
    raise UsageError(f"--format {library}: {why}; export without --format, for load_encoder")


def _file(out: Path, branch: str, checkpoint: str | None, suffix: str) -> Path:
    """``out`` where it names a file, else one in it; only the run's own encoder has that name."""
    name = "encoder" if branch == "online" else "momentum"
    default = (f"{name}-{checkpoint}" if checkpoint else name) + suffix
    if out.suffix in {".safetensors", ".pth"} - {suffix}:
        raise UsageError(f"--out {out}: this format is a {suffix}; give a folder or such a name")
    return out if out.suffix == suffix else out / default
