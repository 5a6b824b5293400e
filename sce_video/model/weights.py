"""Encoders to evaluate or to start from: ours, torchvision's, and weights of others."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torchvision
from safetensors import SafetensorError
from torch import nn

from sce_video.config.recipes import RECIPES
from sce_video.config.trunks import TRUNKS, Input
from sce_video.errors import UsageError
from sce_video.files import sha256_file
from sce_video.model.encoder import (
    ENCODER_NAME,
    EncoderSpec,
    build_encoder,
    check_finite_weights,
    fill,
    load_encoder,
    make_network,
)
from sce_video.model.pickle_file import is_pickled
from sce_video.model.recognise import (
    Place,
    Tensors,
    choose,
    fill_trunk,
    find_places,
    some,
)
from sce_video.model.run_checkpoint import (
    CHECKPOINT_NAME,
    TRUNKS_IN_IT,
    check_sha256,
    checkpoint_spec,
    is_checkpoint,
    run_of,
    without_config,
)
from sce_video.model.tensor_file import open_safetensors, read_tensors

_LIBRARY = "torchvision:"
_GROUPS = 6  # that a note lists
_TORCHVISION_VIDEO = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))  # of its weights


@dataclass(frozen=True)
class OpenedEncoder:
    """An encoder that was opened, and what results say of it."""

    trunk: nn.Module  # ``[B,3,T,H,W]`` normalised -> ``[B,F]``; in eval mode, on the CPU
    spec: EncoderSpec
    identity: Mapping[str, str | int]  # its file's sha256, or the seed of its weights
    file: Path | None  # None: fresh weights
    note: str = ""  # what was taken of a file, and what was left
    part: str = ""  # prefix of its tensors' names in the file

    @property
    def digest(self) -> dict[str, Any]:
        """Its identity wherever it lies: sha256 or seed, and its part of the file."""
        known = {k: v for k, v in self.identity.items() if k.endswith(("_sha256", "_seed"))}
        return {**known, "part": self.part} if self.part else known

    @property
    def name(self) -> str:
        """For messages: its file, or the network."""
        return str(self.file or self.identity["encoder"])

    @property
    def folder(self) -> Path:
        """Where its results go: beside its file if they may, else below ``runs`` by identity.

        Those of a checkpoint, whose folder may go, in one of its name in the run's.
        """
        known = str(next(iter(self.digest.values())))
        if self.file is None:
            network = str(self.identity["encoder"]).replace(":", "-")
            return Path("runs") / f"{network}-seed{known}"
        there = into = self.file.parent
        step = there.absolute()
        if is_checkpoint(self.file) and step.parent.name == "checkpoints":
            there, into = run_of(self.file), run_of(self.file) / step.name
        if os.access(there, os.W_OK | os.X_OK):
            return into
        return Path("runs") / f"encoder-{known[:12]}"


class Location(NamedTuple):
    """What ``--encoder`` names."""

    network: str  # of torchvision; "" = the file says it
    file: Path | None  # None: fresh weights
    part: str | None  # prefix of the tensors' names in the file; None = not said


def encoder_file(location: str | Path) -> Location:
    """Read a location; see :func:`open_encoder`.

    Raises:
        UsageError: no such network.
    """
    text, name = str(location), ""
    if text.startswith(_LIBRARY):
        name, _, text = text.removeprefix(_LIBRARY).partition("=")
        known = [name for name, t in TRUNKS.items() if t.same and t.whose == "torchvision"]
        if name not in known:
            raise UsageError(f"{location}: no such network; there are {', '.join(known)}")
        if not text:
            return Location(name, None, None)
    path, part = _split(text)
    if path.is_dir():
        names = [ENCODER_NAME] + [CHECKPOINT_NAME] * (path / CHECKPOINT_NAME).is_file()
        path = next((path / n for n in names if (path / n).is_file()), path / ENCODER_NAME)
    return Location(name, path, part)


def _split(text: str) -> tuple[Path, str | None]:
    """File or folder, and what follows ``#``, which may be in names of either."""
    cuts = [len(text), *(cut.start() for cut in reversed([*re.finditer("#", text)]))]
    cut = next((cut for cut in cuts if Path(text[:cut]).exists()), cuts[:2][-1])
    return Path(text[:cut]), text[cut + 1 :] if cut < len(text) else None


def open_encoder(location: str | Path, seed: int = 0) -> OpenedEncoder:
    """Open an encoder of ours or of others.

    Args:
        location: a run's folder or encoder file; a checkpoint's folder or its model file; a file
            of others that holds all tensors of one of our trunks behind any prefix
            (``.pth``, ``.safetensors``, ``.ckpt``, ...); ``torchvision:NAME`` for that network
            with fresh weights, or ``torchvision:NAME=FILE``. ``FILE#PREFIX`` chooses among
            several encoders of a file; else :func:`sce_video.model.recognise.choose` does.
        seed: of fresh weights.

    Raises:
        UsageError: no such encoder, a file that could run code when opened, or one that lacks a
            tensor of the trunk or has more layers.
        SceVideoError: a weight that is not finite.
        VerificationError: a checkpoint that is not what its manifest names.
    """
    name, file, part = encoder_file(location)
    if file is None:
        return _fresh(name, seed)
    if not name and is_checkpoint(file):
        encoder = _from_checkpoint(file, part)
    elif name or (file.is_file() and _is_of_others(file)):
        encoder = _from_file(file, name, part)
    else:
        if part is not None and file.is_file():
            raise UsageError(f"{file}: holds one encoder; give it without '#{part}'")
        trunk, spec = load_encoder(file)
        encoder = OpenedEncoder(trunk, spec, _identity(location, file), file)
    return encoder


def _identity(location: str | Path, file: Path) -> dict[str, str | int]:
    return {"encoder": str(location), "encoder_sha256": sha256_file(file)}


def _is_of_others(file: Path) -> bool:
    try:
        with open_safetensors(file) as stream:
            return "sce_video" not in (stream.metadata() or {})
    except SafetensorError:  # of what is neither load_encoder says so
        return is_pickled(file)


def _fresh(name: str, seed: int) -> OpenedEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tensors = torchvision.models.get_model(name).state_dict()
    trunk = fill_trunk(tensors, name)
    identity: dict[str, str | int] = {"encoder": _LIBRARY + name, "encoder_seed": seed}
    return OpenedEncoder(trunk, _spec(name, torchvisions=True), identity, None)


def _from_file(file: Path, name: str, part: str | None) -> OpenedEncoder:
    if not file.is_file():
        raise UsageError(f"{file}: no such file of weights")
    tensors = read_tensors(file)
    places = find_places(tensors, str(file), name)
    place = choose(places, str(file), part)
    trunk = fill_trunk(place.take(tensors), place.trunk)
    check_finite_weights(trunk, file)
    spec = _spec(place.trunk, torchvisions=not re.search(r"\btrunk(\.model)?$", place.prefix))
    return _opened(file, trunk, spec, place, _note(tensors, places, place, trunk))


def _from_checkpoint(file: Path, part: str | None) -> OpenedEncoder:
    spec, tensors = checkpoint_spec(file), read_tensors(file)
    if spec is None:  # as a file of others, which says as little
        try:
            found = _from_file(file, "", part)
        except UsageError as error:
            raise UsageError(f"{error}; {without_config(file)}") from error
        return replace(found, note=f"{found.note}; {without_config(file)}")
    places = [Place(spec.trunk, prefix) for prefix in TRUNKS_IN_IT]
    places = [place for place in places if place.take(tensors)]
    if not places:
        raise UsageError(f"{file}: not the model of a checkpoint: it has no trunk")
    place = choose(places, str(file), part)
    own = place.take(tensors)
    trunk = make_network(lambda: build_encoder(spec), {k: t.shape for k, t in own.items()}, file)
    fill(trunk, own, file).eval()
    encoder = _opened(file, trunk, spec, place, _note(tensors, places, place, trunk))
    check_sha256(file, str(encoder.identity["encoder_sha256"]))
    return encoder


def _opened(
    file: Path, trunk: nn.Module, spec: EncoderSpec, place: Place, note: str
) -> OpenedEncoder:
    where = f"{file}#{place.prefix}" if place.prefix else str(file)
    return OpenedEncoder(
        trunk, spec, _identity(where, file), file, f"{where}: {note}", place.prefix
    )


def _note(tensors: Tensors, places: Sequence[Place], chosen: Place, trunk: nn.Module) -> str:
    """What was taken of a file's tensors, what could have been, and what was left out."""
    own, others = chosen.take(tensors), []
    layers = [key for key, t in trunk.state_dict().items() if t.is_floating_point()]
    for place in places:
        its = place.take(tensors)
        same = place.trunk == chosen.trunk and all(  # as float32: float8 cannot be compared
            k in its and torch.equal(own[k].float(), its[k].float()) for k in layers
        )
        if place != chosen:
            others.append(f"#{place.prefix} ({'the same tensors' if same else place.trunk})")
    start = f"{chosen.prefix}." if chosen.prefix else ""
    used = {start + key for key in trunk.state_dict()}
    groups = Counter(_apart(key, start) for key in tensors if key not in used)
    left = some([f"{group} ({count})" for group, count in groups.items()], _GROUPS)
    choice = f"; FILE#PREFIX takes another: {some(others, _GROUPS)}" if others else ""
    count = len(used & tensors.keys())
    return f"{chosen.trunk}, all its {count} tensors{choice}; left out: {left or 'nothing'}"


def _apart(key: str, start: str) -> str:
    """The word of a tensor's name with which it leaves a prefix."""
    own, words = start.split("."), key.split(".")
    return next((word for word, other in zip(words, own, strict=False) if word != other), words[-1])


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
