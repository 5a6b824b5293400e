"""Encoders of others: torchvision's networks and state dicts that fit one of our trunks.

Our trunks have the layer names of the library they are from, so that a file is recognised by the
names and shapes of its tensors.
"""

from __future__ import annotations

import os
import pickle
import re
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from sce_video.config.recipes import RECIPES
from sce_video.errors import UsageError, first_line
from sce_video.files import sha256_file
from sce_video.model.encoder import ENCODER_NAME, EncoderSpec, load_encoder
from sce_video.model.trunks import build_trunk

_LIBRARY = "torchvision:"
_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "r2plus1d_18": torchvision.models.video.r2plus1d_18,
    "resnet18": torchvision.models.resnet18,
    "resnet50": torchvision.models.resnet50,
}
_TORCHVISION_VIDEO = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))  # of its weights

# Trunk -> frames and seconds of a clip, side of a training crop, and the recipe whose mean and std
# normalise: what a file of weights does not say. Of r2plus1d_18 torchvision's (16 frames of 15 a
# second), of the other video trunks those of SCE's runs.
_INPUTS = {
    "r2plus1d_18": (16, 16 / 15, 112, "crop_flip"),
    "r3d_18": (8, 2.56, 224, "crop_flip"),
    "r3d_50": (8, 2.56, 224, "crop_flip"),
    "r2plus1d_50": (16, 2.56, 224, "crop_flip"),
    "resnet18": (1, 0.0, 224, "imagenet_two_view"),
    "resnet50": (1, 0.0, 224, "imagenet_two_view"),
    "resnet18_small": (1, 0.0, 32, "cifar_weak_strong"),
}

_WRAPPERS = ("state_dict", "model_state", "model")  # Lightning and MoCo; pytorchvideo; others
_PREFIXES = ("", "module.", "model.", "trunk.", "trunk.model.")  # the last two eztorch's
_CLASSIFIER = re.compile(r"(fc|head|classifier)\.|blocks\.5\.proj\.")
_DAMAGED = (  # what torch.load and safetensors raise of a file that is none of theirs
    *(pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, LookupError, ValueError),
    *(AttributeError, TypeError, struct.error),
)
_COUNTER = "num_batches_tracked"  # of BN: unused in evaluation, and not in old files


@dataclass(frozen=True)
class OpenedEncoder:
    """An encoder that was opened, and what results say of it."""

    trunk: nn.Module  # ``[B,3,T,H,W]`` normalised -> ``[B,F]``; in eval mode, on the CPU
    spec: EncoderSpec
    identity: Mapping[str, str | int]  # its file's sha256, or the seed of its weights
    folder: Path  # where its results go
    note: str = ""  # what was taken of a foreign file

    @property
    def digest(self) -> dict[str, Any]:
        """Its identity wherever it lies: sha256 or seed alone."""
        return {k: v for k, v in self.identity.items() if k.endswith(("_sha256", "_seed"))}


def encoder_file(location: str | Path) -> tuple[str, Path | None]:
    """The network that a location names ("" = the file's own) and its file, None = fresh weights.

    Raises:
        UsageError: no such network.
    """
    text = str(location)
    if text.startswith(_LIBRARY):
        name, _, weights = text.removeprefix(_LIBRARY).partition("=")
        if name not in _NETWORKS:
            raise UsageError(f"{text}: no such network; there are {', '.join(_NETWORKS)}")
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
    if name or (file.is_file() and _is_foreign(file)):
        return _from_file(file, name)
    trunk, spec = load_encoder(file)
    identity = {"encoder": str(location), "encoder_sha256": sha256_file(file)}
    return OpenedEncoder(trunk, spec, identity, results_folder(file, identity["encoder_sha256"]))


def results_folder(file: Path, sha256: str) -> Path:
    """Where the results of a file of weights go: beside it, or below ``runs``.

    The latter where its folder cannot be written.
    """
    if os.access(file.parent, os.W_OK | os.X_OK):
        return file.parent
    return Path("runs") / f"encoder-{sha256[:12]}"


def _is_foreign(file: Path) -> bool:
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
        tensors = _NETWORKS[name]().state_dict()
    trunk, _ = _match(tensors, name, name)
    identity: Mapping[str, str | int] = {"encoder": _LIBRARY + name, "encoder_seed": seed}
    folder = Path("runs") / f"torchvision-{name}-seed{seed}"
    return OpenedEncoder(trunk, _spec(name, torchvision_video=True), identity, folder)


def _from_file(file: Path, name: str) -> OpenedEncoder:
    if not file.is_file():
        raise UsageError(f"{file}: no such file of weights")
    tensors = _read(file)
    name, prefix = _recognise(tensors, str(file), name)
    own = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    trunk, used = _match(own, name, str(file))
    left = [key for key in tensors if key.removeprefix(prefix) not in used]
    groups = Counter(key.partition(".")[0] for key in left)
    out = ", ".join(f"{group} ({count})" for group, count in groups.items()) or "nothing"
    note = f"{file}: {name}, all its {len(used)} tensors; left out: {out}"
    identity = {"encoder": str(file), "encoder_sha256": sha256_file(file)}
    spec = _spec(name, torchvision_video="trunk." not in prefix)
    folder = results_folder(file, identity["encoder_sha256"])
    return OpenedEncoder(trunk, spec, identity, folder, note)


def _spec(name: str, *, torchvision_video: bool) -> EncoderSpec:
    frames, seconds, size, recipe = _INPUTS[name]
    mean, std = RECIPES[recipe].stats
    if name == "r2plus1d_18" and torchvision_video:
        mean, std = _TORCHVISION_VIDEO
    return EncoderSpec(
        trunk=name, width=64, frames=frames, seconds=seconds, size=size, mean=mean, std=std
    )


def _read(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, whatever dict they are wrapped in."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        if "Unsupported" in str(error):
            raise UsageError(
                f"{file}: holds Python objects, which may run code when they are opened; if you "
                'trust it, save its tensors alone: python -c "import torch; torch.save(torch.load('
                f"'{file}', weights_only=False)['state_dict'], 'weights.pth')\""
            ) from error
        raise UsageError(f"{file}: not a file of tensors: {first_line(error)}") from error
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    items = content.items() if isinstance(content, dict) else ()
    return {str(key): value for key, value in items if isinstance(value, Tensor)}


def _empty(name: str) -> nn.Module:
    """The trunk without memory for its tensors."""
    with torch.device("meta"):
        return build_trunk(name)


@cache
def _shapes(name: str) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in _empty(name).state_dict().items()}


def _recognise(tensors: dict[str, Tensor], file: str, name: str) -> tuple[str, str]:
    """The trunk that most of whose tensors are there, and the prefix of their names.

    Raises:
        UsageError: none fits, named or not.
    """
    best, fit = ("", ""), 0.0
    for trunk in [name] if name else _INPUTS:
        shapes = {k: shape for k, shape in _shapes(trunk).items() if _COUNTER not in k}
        for prefix in _PREFIXES:
            there = sum(
                (found := tensors.get(prefix + key)) is not None and found.shape == shape
                for key, shape in shapes.items()
            )
            if there / len(shapes) > fit:
                best, fit = (trunk, prefix), there / len(shapes)
    if not fit:
        raise UsageError(f"{file}: holds no tensor of {name or 'a trunk of ours'}")
    return best


def _match(tensors: dict[str, Tensor], name: str, file: str) -> tuple[nn.Module, set[str]]:
    """The trunk with ``tensors``, and the names of those that it took.

    Raises:
        UsageError: a tensor of the trunk is missing or of another shape, or there are layers
            that are neither the trunk's nor a classifier's.
    """
    shapes = _shapes(name)
    lacking = [
        key
        for key, shape in shapes.items()
        if _COUNTER not in key and (key not in tensors or tensors[key].shape != shape)
    ]
    more = [key for key in tensors if key not in shapes and not _CLASSIFIER.match(key)]
    if lacking or more:
        what = "lacks" if lacking else "has more layers:"
        keys = lacking or more
        raise UsageError(
            f"{file}: nearest to {name}, but {what} {', '.join(keys[:3])}"
            f"{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}; nothing was loaded"
        )
    trunk = _empty(name)
    used = {
        key: tensors[key].to(own.dtype) if key in tensors else torch.zeros((), dtype=own.dtype)
        for key, own in trunk.state_dict().items()
    }
    trunk.load_state_dict(used, assign=True)
    return trunk.eval(), set(used)
