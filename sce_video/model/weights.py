"""Encoders to evaluate or to start from: ours, torchvision's, and weights of others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from torch import nn

from sce_video.config.recipes import RECIPES
from sce_video.config.trunks import TRUNKS, Input
from sce_video.errors import UsageError
from sce_video.files import sha256_file
from sce_video.model.encoder import ENCODER_NAME, EncoderSpec, load_encoder
from sce_video.model.recognise import fill_trunk, read_tensors, recognise

_LIBRARY = "torchvision:"
_TORCHVISION_VIDEO = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))  # of its weights


@dataclass(frozen=True)
class OpenedEncoder:
    """An encoder that was opened, and what results say of it."""

    trunk: nn.Module  # ``[B,3,T,H,W]`` normalised -> ``[B,F]``; in eval mode, on the CPU
    spec: EncoderSpec
    identity: Mapping[str, str | int]  # its file's sha256, or the seed of its weights
    file: Path | None  # None: fresh weights
    note: str = ""  # what was taken of a file of others

    @property
    def digest(self) -> dict[str, Any]:
        """Its identity wherever it lies: sha256 or seed alone."""
        return {k: v for k, v in self.identity.items() if k.endswith(("_sha256", "_seed"))}

    @property
    def folder(self) -> Path:
        """Where its results go: beside its file if they may, else below ``runs`` by identity."""
        [known] = self.digest.values()
        if self.file is None:
            network = str(self.identity["encoder"]).replace(":", "-")
            return Path("runs") / f"{network}-seed{known}"
        if os.access(self.file.parent, os.W_OK | os.X_OK):
            return self.file.parent
        return Path("runs") / f"encoder-{known[:12]}"


def encoder_file(location: str | Path) -> tuple[str, Path | None]:
    """The network that a location names ("" = the file's own) and its file, None = fresh weights.

    Raises:
        UsageError: no such network.
    """
    text = str(location)
    if text.startswith(_LIBRARY):
        name, _, weights = text.removeprefix(_LIBRARY).partition("=")
        known = [name for name, t in TRUNKS.items() if t.same and t.whose == "torchvision"]
        if name not in known:
            raise UsageError(f"{text}: no such network; there are {', '.join(known)}")
        return name, Path(weights) if weights else None
    path = Path(location)
    return "", path / ENCODER_NAME if path.is_dir() else path


def open_encoder(location: str | Path, seed: int = 0) -> OpenedEncoder:
    """Open an encoder of ours or of others.

    Args:
        location: a run's folder or encoder file; ``torchvision:NAME`` for that network with fresh
            weights, or ``torchvision:NAME=FILE``; a state dict of torchvision, pytorchvideo or
            eztorch (``.pth``, ``.safetensors``, ``.ckpt``, ...), whose classifier is left out.
        seed: of fresh weights.

    Raises:
        UsageError: no such encoder, a file that could run code when opened, or one that lacks a
            tensor of the trunk or has more layers.
    """
    name, file = encoder_file(location)
    if file is None:
        return _fresh(name, seed)
    if name or (file.is_file() and _is_of_others(file)):
        return _from_file(file, name)
    trunk, spec = load_encoder(file)
    return OpenedEncoder(trunk, spec, _identity(location, file), file)


def _identity(location: str | Path, file: Path) -> dict[str, str | int]:
    return {"encoder": str(location), "encoder_sha256": sha256_file(file)}


def _is_of_others(file: Path) -> bool:
    if file.suffix in (".pth", ".pt", ".pyth", ".ckpt", ".tar", ".bin"):
        return True
    try:
        with safe_open(file, framework="pt") as stream:
            return "sce_video" not in (stream.metadata() or {})
    except SafetensorError:  # load_encoder says what is wrong with it
        return False


def _fresh(name: str, seed: int) -> OpenedEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tensors = torchvision.models.get_model(name).state_dict()
    trunk, _ = fill_trunk(tensors, name, name)
    identity: dict[str, str | int] = {"encoder": _LIBRARY + name, "encoder_seed": seed}
    return OpenedEncoder(trunk, _spec(name, torchvisions=True), identity, None)


def _from_file(file: Path, name: str) -> OpenedEncoder:
    if not file.is_file():
        raise UsageError(f"{file}: no such file of weights")
    tensors = read_tensors(file)
    name, prefix = recognise(tensors, str(file), name)
    own = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    trunk, used = fill_trunk(own, name, str(file))
    left = [key for key in tensors if key.removeprefix(prefix) not in used]
    groups = Counter(key.partition(".")[0] for key in left)
    out = ", ".join(f"{group} ({count})" for group, count in groups.items()) or "nothing"
    note = f"{file}: {name}, all its {len(used)} tensors; left out: {out}"
    spec = _spec(name, torchvisions="trunk." not in prefix)
    return OpenedEncoder(trunk, spec, _identity(file, file), file, note)


def _spec(name: str, *, torchvisions: bool) -> EncoderSpec:
    """What weights of others took; SCE's runs fed torchvision's trunks as they did theirs."""
    known = TRUNKS[name]
    frames, seconds, size, recipe = cast(Input, known.input)  # recognise finds no others
    mean, std = RECIPES[recipe].stats
    if torchvisions and known.whose == "torchvision" and not known.images:
        mean, std = _TORCHVISION_VIDEO
    return EncoderSpec(
        trunk=name, width=64, frames=frames, seconds=seconds, size=size, mean=mean, std=std
    )
