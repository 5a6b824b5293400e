"""The encoder that training leaves: a trunk's weights and what its input must look like."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import shorten
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sce_video.config.recipes import RECIPES, Colour
from sce_video.config.tasks import Config
from sce_video.errors import UsageError
from sce_video.files import whole_file
from sce_video.model.trunks import build_trunk
from sce_video.model.trunks.lab import LabTrunk

ENCODER_NAME = "encoder.safetensors"

Header = TypeVar("Header", bound=BaseModel)


class EncoderSpec(BaseModel):
    """How to build the trunk, and the clips it was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trunk: str
    width: int
    colour: Literal["rgb", "lab"] = "rgb"  # lab: a trunk for lightness, one for colour
    frames: int  # of a clip; 1 for images
    seconds: float  # span of a clip; 0 for images
    size: int  # side of a training crop, pixels
    mean: Colour  # of [0,1] pixels
    std: Colour


def encoder_spec(config: Config) -> EncoderSpec:
    """What a run's encoder is and sees."""
    mean, std = RECIPES[config.augment.recipe].stats
    return EncoderSpec(
        trunk=config.model.trunk,
        width=config.model.width,
        colour=config.colour,
        frames=config.shape.frames,
        seconds=config.shape.seconds,
        size=config.shape.size,
        mean=mean,
        std=std,
    )


def build_encoder(spec: EncoderSpec) -> nn.Module:
    """The trunk that ``spec`` describes, with fresh weights."""
    if spec.colour == "lab":
        return LabTrunk(spec.trunk, spec.width, spec.mean, spec.std)
    return build_trunk(spec.trunk, spec.width)


def save_encoder(path: Path, trunk: nn.Module, spec: EncoderSpec) -> None:
    """Write the trunk's state dict with ``spec`` in the file's header; atomically."""
    save_weights(path, trunk, spec)


def save_weights(path: Path, module: nn.Module, header: BaseModel) -> None:
    """Write a module's state dict with a JSON header; atomically."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in module.state_dict().items()}
    with whole_file(path) as partial:
        save_file(tensors, partial, {"sce_video": header.model_dump_json()})


def read_weights(file: Path, header: type[Header], what: str) -> tuple[Header, dict[str, Tensor]]:
    """Header and tensors of a file of :func:`save_weights`.

    Raises:
        UsageError: not such a file; ``what`` it should have been is said.
    """
    try:
        with safe_open(file, framework="pt") as stream:
            about = json.loads((stream.metadata() or {}).get("sce_video", "null"))
            if not isinstance(about, dict) or about.keys() - header.model_fields.keys():
                kind = f"is of another kind ({', '.join(about)})" if about else "is not ours"
                raise UsageError(f"{file}: not {what} of sce-video: its header {kind}")
            found = header.model_validate(about)
            return found, {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UsageError(f"{file}: not {what} of sce-video: its header's {reason}") from error
    except (SafetensorError, ValueError) as error:
        raise UsageError(
            f"{file}: not {what} of sce-video: no safetensors file, or a damaged one"
        ) from error


def fill(module: nn.Module, tensors: dict[str, Tensor], file: Path) -> None:
    """Load all of a module's tensors.

    Raises:
        UsageError: some are missing, too many, or of another shape.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        problem = shorten(" ".join(str(error).split()).partition(": ")[2], 300)
        raise UsageError(f"{file}: its tensors are not its network's: {problem}") from error


def load_encoder(path: str | Path) -> tuple[nn.Module, EncoderSpec]:
    """Open an encoder.

    Args:
        path: ``encoder.safetensors``, or a run folder that holds one.

    Returns:
        The trunk in eval mode on the CPU (``[B,3,T,H,W]`` normalised -> ``[B,F]``), and its spec.

    Raises:
        UsageError: no encoder there, or a file that is not one of ours.
    """
    path = Path(path)
    file = path / ENCODER_NAME if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"{file}: no encoder; give a finished run's folder or its {ENCODER_NAME} "
            "(of a run that was stopped, sce-video export RUN makes it)"
        )
    spec, tensors = read_weights(file, EncoderSpec, "an encoder")
    trunk = build_encoder(spec)
    fill(trunk, tensors, file)
    return trunk.eval(), spec
