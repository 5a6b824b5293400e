"""The encoder that training leaves: a trunk's weights and what its input must look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from sce_video.config.tasks import Config
from sce_video.config.trunks import TRUNKS
from sce_video.documents import DocumentError, parse_json
from sce_video.errors import SceVideoError, UsageError
from sce_video.files import whole_file
from sce_video.model.recognise import some
from sce_video.model.tensor_file import open_safetensors
from sce_video.model.trunks import build_trunk
from sce_video.model.trunks.lab import LabTrunk

ENCODER_NAME = "encoder.safetensors"

Header = TypeVar("Header", bound=BaseModel)


_HEADER = 1 << 24  # bytes of a header: 100,000 classes of long names
_CLIP = 1 << 28  # pixels of a clip
Level = Annotated[float, Field(ge=-1000, le=1000)]
Spread = Annotated[float, Field(gt=1e-6, le=1000)]


class EncoderSpec(BaseModel):
    """How to build the trunk, and the clips it was trained on.

    The bounds are far beyond what can be trained; a file of others that names more is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trunk: str
    width: int = Field(ge=1, le=4096)
    colour: Literal["rgb", "lab"] = "rgb"  # lab: a trunk for lightness, one for colour
    frames: int = Field(ge=1)  # of a clip; 1 for images
    seconds: float = Field(ge=0, le=1_000_000)  # span of a clip; 0 for images
    size: int = Field(ge=1)  # side of a training crop, pixels
    mean: tuple[Level, Level, Level]  # of [0,1] pixels
    std: tuple[Spread, Spread, Spread]

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        """Names of networks are ours alone: no file of weights names code that is run."""
        if self.trunk not in TRUNKS:
            raise ValueError(f"no such trunk; there are {', '.join(TRUNKS)}")
        if self.frames * self.size**2 > _CLIP:
            raise ValueError(f"clips of more than {_CLIP:,} pixels")
        return self


def encoder_spec(config: Config) -> EncoderSpec:
    """What a run's encoder is and sees.

    Raises:
        UsageError: its network or its clips are larger than any that can be trained.
    """
    mean, std = config.augment.find_recipe().stats
    try:
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
    except ValidationError as error:
        raise UsageError(f"model and clip: {problem_of(error)}") from error


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


def read_weights(
    file: Path, header: type[Header], what: str, build: Callable[[Header], nn.Module]
) -> tuple[Header, nn.Module]:
    """Header of a file of :func:`save_weights`, and the network that it is of.

    Args:
        file: of the weights.
        header: what the header has to be.
        what: the file should be, for messages.
        build: the network with fresh weights.

    Raises:
        OSError: it cannot be read, or is no regular file.
        UsageError: not such a file, or its tensors are not the network's.
        SceVideoError: a weight that is not finite.
    """
    try:
        with open_safetensors(file) as stream:
            text = (stream.metadata() or {}).get("sce_video", "null")
            about = parse_json(text) if len(text) <= _HEADER else None
            if not isinstance(about, dict) or about.keys() - header.model_fields.keys():
                keys = some(list(about)) if isinstance(about, dict) else type(about).__name__
                kind = f"is of another kind ({keys})" if about else "is not ours"
                raise UsageError(f"{file}: not {what} of sce-video: its header {kind}")
            found = header.model_validate(about)
            shapes = {name: stream.get_slice(name).get_shape() for name in stream.keys()}  # noqa: SIM118
            module = make_network(lambda: build(found), shapes, file)
            return found, fill(module, {name: stream.get_tensor(name) for name in shapes}, file)
    except ValidationError as error:
        raise UsageError(
            f"{file}: not {what} of sce-video: its header's {problem_of(error)}"
        ) from error
    except DocumentError as error:
        raise UsageError(f"{file}: not {what} of sce-video: its header: {error}") from error
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{file}: not {what} of sce-video: no safetensors file, or a damaged one"
        ) from error


def problem_of(error: ValidationError) -> str:
    """The first thing that is wrong with a header, in one line."""
    first = error.errors()[0]
    words = first["msg"].removeprefix("Value error, ")
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), words]))


def make_network(
    build: Callable[[], nn.Module], shapes: Mapping[str, Sequence[int]], file: Path
) -> nn.Module:
    """The network that tensors of such shapes are of, with fresh weights.

    It is built without memory first: what a header says of its size costs nothing until the file
    has as many weights.

    Raises:
        UsageError: some tensors are missing, too many, or of another shape.
    """
    with torch.device("meta"):
        own = {name: list(tensor.shape) for name, tensor in build().state_dict().items()}
    problems = [f"lacks {name}" for name in own if name not in shapes]
    problems += [f"has {name}" for name in shapes if name not in own]
    problems += [
        f"{name} is {list(shapes[name])}, not {shape}"
        for name, shape in own.items()
        if name in shapes and list(shapes[name]) != shape
    ]
    if problems:
        raise UsageError(f"{file}: its tensors are not its network's: {some(problems)}")
    return build()


def fill(module: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> nn.Module:
    """Load all of a module's tensors, whose shapes are known to be right; returns it.

    Raises:
        UsageError: one has no real numbers.
        SceVideoError: a weight that is not finite.
    """
    odd = [f"{name} ({t.dtype})" for name, t in tensors.items() if not _is_real(t)]
    if odd:
        raise UsageError(f"{file}: its tensors are not its network's: {some(odd)}")
    module.load_state_dict(tensors)
    check_finite_weights(module, file)
    return module


def _is_real(tensor: Tensor) -> bool:
    of_whole = tensor.dtype in (torch.int32, torch.int64) and not tensor.dim()  # a counter
    return tensor.is_floating_point() or of_whole


def check_finite_weights(module: nn.Module, file: Path) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        SceVideoError: there are some.
    """
    weights = module.state_dict().items()
    suspects = [(key, t) for key, t in weights if not t.sum().isfinite()]  # quick; may overflow
    if bad := [key for key, t in suspects if not t.isfinite().all()]:
        raise SceVideoError(f"{file}: weights that are not finite: {some(bad)}; take older ones")


def load_encoder(path: str | Path) -> tuple[nn.Module, EncoderSpec]:
    """Open an encoder.

    Args:
        path: ``encoder.safetensors``, or a run folder that holds one.

    Returns:
        The trunk in eval mode on the CPU (``[B,3,T,H,W]`` normalised -> ``[B,F]``), and its spec.

    Raises:
        UsageError: no encoder there, or a file that is not one of ours.
        SceVideoError: a weight that is not finite.
    """
    path = Path(path)
    file = path / ENCODER_NAME if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"{file}: no encoder; give a finished run's folder or its {ENCODER_NAME} "
            "(of a run that was stopped, sce-video export RUN makes it)"
        )
    spec, trunk = read_weights(file, EncoderSpec, "an encoder", build_encoder)
    return trunk.eval(), spec
