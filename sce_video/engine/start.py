"""What ``run.init_from`` brings: an encoder says of itself what a configuration leaves open.

Trunk, width and colour, the clip or the side of an image, and what normalises the pixels. Read
without torch where the encoder is ours: a mistake in a configuration is said before it is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sce_video.config.load import Brought, flat, load_config, read_config
from sce_video.config.sections import RunConfig
from sce_video.config.tasks import AnyConfig
from sce_video.documents import parse_json
from sce_video.engine.run_folder import RunFolder
from sce_video.errors import UsageError

_ENCODER = "encoder.safetensors"  # as sce_video.model.encoder has it, which imports torch
_SAID = {"trunk", "width", "frames", "seconds", "size", "mean", "std"}
_KEYS = (
    *("model.trunk", "model.width", "model.colour"),
    *("clip.frames", "clip.seconds", "clip.size"),
    *("augment.size", "augment.mean", "augment.std"),
)
"""What may be brought."""


def load_run(name: str, overrides: Sequence[str] = ()) -> AnyConfig:
    """:func:`load_config` of a run that is to start or to go on, every value resolved.

    What the file and the overrides leave out is the encoder's that ``run.init_from`` names; of a
    run that goes on, what it was when it began.

    Raises:
        UsageError: as there, or no encoder where ``run.init_from`` says.
    """
    return load_config(name, overrides, _bring)


def _bring(tree: Mapping[str, Any]) -> Brought:
    """What fills the keys of ``tree`` that its encoder knows."""
    given = tree.get("run")
    given = given if isinstance(given, dict) else {}
    run = RunConfig.model_construct(**{k: given[k] for k in RunConfig.model_fields if k in given})
    if isinstance(run.dir, str) and run.resume:
        folder = RunFolder(Path(run.dir))
        if folder.saved and folder.config.is_file():
            return _began(folder.config)
    if not isinstance(run.init_from, str):
        return Brought("", {})
    source = f"run.init_from={run.init_from}"
    return Brought(source, _keys(tree, _header(run.init_from) or _opened(run.init_from)))


def _began(config: Path) -> Brought:
    """What a run was that goes on, as its own ``config.yaml`` has it."""
    # Not validated: another version may have written keys that this one does not know.
    before = read_config(config)
    run = before.get("run")
    known = flat(before) if isinstance(run, dict) and run.get("init_from") else {}
    return Brought(str(config), {key: known[key] for key in _KEYS if key in known})


def _keys(tree: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """What an encoder says of itself, as keys of a configuration."""
    model = {"trunk": known["trunk"], "width": known["width"]}
    if tree.get("task", "pretrain") != "pretrain":  # whose objective says it
        model["colour"] = known.get("colour", "rgb")
    augment = {"mean": known["mean"], "std": known["std"]}
    clip = {}
    if _takes_images(tree, known):
        augment["size"] = known["size"]
    elif known["seconds"]:
        clip = {name: known[name] for name in ("frames", "seconds", "size")}
    else:  # frames as images, of which it knows no time
        clip = {"size": known["size"]}
    sections = {"model": model, "clip": clip, "augment": augment}
    return {f"{s}.{name}": value for s, found in sections.items() for name, value in found.items()}


def _takes_images(tree: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """As the configuration says; where it does not, as the encoder does."""
    augment = tree.get("augment")
    if "clip" in tree:
        return tree["clip"] is None
    return not known["seconds"] or bool(isinstance(augment, dict) and augment.get("size"))


def _header(location: str) -> dict[str, Any] | None:
    """What an encoder file of ours says of itself; None where there is none, or a damaged one."""
    path = Path(location)
    file = path / _ENCODER if path.is_dir() else path
    if file.suffix != ".safetensors" or not file.is_file():
        return None
    try:
        with safe_open(file, framework="np") as stream:
            about = parse_json((stream.metadata() or {}).get("sce_video", "null"))
    except (SafetensorError, ValueError):  # what is wrong is said where it is opened
        return None
    return about if isinstance(about, dict) and about.keys() >= _SAID else None


def _opened(location: str) -> dict[str, Any]:
    """What weights of others took, by the trunk that they are recognised as."""
    # As training has it; read when torch is imported, which only this needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from sce_video.model.weights import open_encoder

    try:
        return open_encoder(location).spec.model_dump()
    except UsageError as error:
        raise UsageError(f"run.init_from: {error}") from error
