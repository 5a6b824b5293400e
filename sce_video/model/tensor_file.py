"""Files of tensors by others: read without unpickling, whatever the tensors are wrapped in."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sce_video.errors import UsageError, first_line
from sce_video.model.pickle_file import conversion, parse

# What torch.load and safetensors raise of a file that is none of theirs.
_DAMAGED: tuple[type[Exception], ...] = (SafetensorError, pickle.UnpicklingError, struct.error)
_DAMAGED += (AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError)
_DAMAGED += (TypeError, ValueError)

# What torch.load says of a file that is whole, but would have to be unpickled.
_OBJECTS = re.compile(
    r"GLOBAL (?P<kind>[\w.]+) (was|whose)|allowlisted|unrecognized function|Can only "
    r"|TorchScript|legacy \.tar|Unsupported operand|Invalid magic number"
)
_REASON = re.compile(r"WeightsUnpickler error:\s+(.+)")  # among the advice to switch the check off

# Modules of torch around others, wherever they stand in a name.
_AROUND = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def plain_name(name: str) -> str:
    """A tensor's name without the modules that torch.compile and FSDP put around others."""
    return _AROUND.sub("", name)


def is_safetensors(file: Path) -> bool:
    """Whether a file is one of safetensors, whatever it is called."""
    try:
        with safe_open(file, framework="pt"):
            return True
    except SafetensorError:
        return False


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Every tensor of a file, in its order, named by the keys on the way to it, joined by dots.

    ``{"state_dict": {"module.conv1.weight": tensor}}`` has ``state_dict.module.conv1.weight``.

    Raises:
        UsageError: not a file of tensors, or one that could run code when opened.
    """
    try:
        if file.suffix == ".safetensors" or is_safetensors(file):
            with safe_open(file, framework="pt") as stream:
                named = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        else:
            with warnings.catch_warnings(action="ignore"):  # the message below says it all
                content = torch.load(file, map_location="cpu", weights_only=True)
            named = dict(_walk(content, (), ()))
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.filename:  # the system's, not of the content
            raise
        if (what := _OBJECTS.search(str(error))) and (pickled := parse(file)):
            raise UsageError(conversion(file, what["kind"], pickled)) from error
        found = _REASON.search(str(error))
        reason = found[1] if found else first_line(error)
        printable = "".join(filter(str.isprintable, reason))
        raise UsageError(f"{file}: not a file of tensors, or a damaged one: {printable}") from error
    tensors: dict[str, Tensor] = {}
    for name, tensor in named.items():
        plain = plain_name(name)
        tensors[name if plain in named or plain in tensors else plain] = tensor
    return tensors


def _walk(
    value: object, path: tuple[str, ...], around: tuple[int, ...]
) -> Iterator[tuple[str, Tensor]]:
    """The tensors in dicts and lists; a pickle may hold one in itself, which is not entered."""
    if isinstance(value, Tensor) and value.is_nested:  # a list of tensors in one
        value = value.unbind()
    if isinstance(value, Tensor):
        yield ".".join(path), value
    elif isinstance(value, dict | list | tuple) and id(value) not in around:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _walk(part, (*path, str(key)), (*around, id(value)))
