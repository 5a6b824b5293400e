"""The trunks in a checkpoint of a run: what the run's configuration says of them."""

from __future__ import annotations

import re
from pathlib import Path

from sce_video.config.load import load_config
from sce_video.documents import DocumentError, read_json
from sce_video.errors import VerificationError
from sce_video.model.encoder import EncoderSpec, encoder_spec

CHECKPOINT_NAME = "model.safetensors"
TRUNKS_IN_IT = ("online.trunk", "momentum.trunk", "trunk")
"""Where trunks are in a checkpoint: of pretraining the first two, of labelled training the last."""


def is_checkpoint(file: Path) -> bool:
    """Whether it is the model file of a checkpoint."""
    beside = (file.parent / "state.json").is_file()
    named = beside or re.fullmatch(r"step-\d{8}", file.absolute().parent.name) is not None
    return file.name == CHECKPOINT_NAME and file.is_file() and named


def run_of(file: Path) -> Path:
    """The folder of the run whose checkpoint's model file it is."""
    return file.absolute().parent.parent.parent


def checkpoint_spec(file: Path) -> EncoderSpec | None:
    """What the run's trunk is and sees; None where the run's configuration is not there."""
    config = run_of(file) / "config.yaml"
    return encoder_spec(load_config(str(config))) if config.is_file() else None


def without_config(file: Path) -> str:
    """What is to be said of a checkpoint that is not in its run's folder."""
    return (
        f"{run_of(file) / 'config.yaml'} is not there, which says of what network and clips it is; "
        "where the whole run is, sce-video export RUN makes an encoder of it"
    )


def check_sha256(file: Path, sha256: str) -> None:
    """Compare the model file with what the checkpoint's manifest names, if that is beside it.

    Raises:
        VerificationError: it is another one, or the manifest is damaged.
    """
    manifest = file.parent / "manifest.json"
    if not manifest.is_file():
        return
    try:
        named = read_json(manifest, dict)[file.name]
    except (DocumentError, LookupError) as error:
        raise VerificationError(f"{manifest}: damaged; take another checkpoint") from error
    if named != sha256:
        raise VerificationError(f"{file}: not what its {manifest.name} names; take another one")
