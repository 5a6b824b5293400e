"""State dicts of others: read without unpickling, recognised, and put into one of our trunks.

Our trunks have the layer names of the library they are from, so that a file is recognised by the
names and shapes of its tensors.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sce_video.config.trunks import TRUNKS
from sce_video.errors import UsageError, first_line
from sce_video.model.trunks import build_trunk

_WRAPPERS = ("state_dict", "model_state", "model")  # Lightning and MoCo; pytorchvideo; others
_PREFIXES = ("", "module.", "model.", "trunk.", "trunk.model.")  # the last two eztorch's
_CLASSIFIER = re.compile(r"(fc|head|classifier)\.|blocks\.5\.proj\.")
_COUNTER = "num_batches_tracked"  # of BN: unused in evaluation, and not in old files

# What torch.load and safetensors raise of a file that is none of theirs.
_DAMAGED: tuple[type[Exception], ...] = (SafetensorError, pickle.UnpicklingError, struct.error)
_DAMAGED += (AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, whatever dict they are wrapped in.

    Raises:
        UsageError: not a file of tensors, or one that could run code when opened.
    """
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


def recognise(tensors: dict[str, Tensor], file: str, name: str) -> tuple[str, str]:
    """The trunk that most of whose tensors are there, and the prefix of their names.

    Args:
        tensors: of a file.
        file: its name, for messages.
        name: of the trunk that it must be; "" = any whose weights by others are known.

    Raises:
        UsageError: none fits, named or not.
    """
    best, fit = ("", ""), 0.0
    for trunk in [name] if name else [name for name, known in TRUNKS.items() if known.input]:
        shapes = {k: shape for k, shape in _shapes(trunk).items() if _COUNTER not in k}
        for prefix in _PREFIXES:
            there = sum(_fits(tensors, prefix + key, shape) for key, shape in shapes.items())
            if there / len(shapes) > fit:
                best, fit = (trunk, prefix), there / len(shapes)
    if not fit:
        raise UsageError(f"{file}: holds no tensor of {name or 'a trunk of ours'}")
    return best


def fill_trunk(tensors: dict[str, Tensor], name: str, file: str) -> tuple[nn.Module, set[str]]:
    """The trunk of that name with ``tensors``, in eval mode, and the names of those that it took.

    Raises:
        UsageError: a tensor of the trunk is missing or of another shape, or there are layers
            that are neither the trunk's nor a classifier's; ``file`` is named.
    """
    shapes = _shapes(name)
    _refuse(
        f"{file}: nearest to {name}, but lacks",
        [k for k, shape in shapes.items() if _COUNTER not in k and not _fits(tensors, k, shape)],
    )
    _refuse(
        f"{file}: nearest to {name}, but has more layers:",
        [k for k in tensors if k not in shapes and not _CLASSIFIER.match(k)],
    )
    trunk = _empty(name)
    used = {
        key: tensors[key].to(own.dtype) if key in tensors else torch.zeros((), dtype=own.dtype)
        for key, own in trunk.state_dict().items()
    }
    trunk.load_state_dict(used, assign=True)
    return trunk.eval(), set(used)


def _refuse(problem: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UsageError(f"{problem} {', '.join(names[:3])}{more}; nothing was loaded")


def _fits(tensors: dict[str, Tensor], key: str, shape: torch.Size) -> bool:
    return key in tensors and tensors[key].shape == shape


def _empty(name: str) -> nn.Module:
    """The trunk without memory for its tensors."""
    with torch.device("meta"):
        return build_trunk(name)


@cache
def _shapes(name: str) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in _empty(name).state_dict().items()}
