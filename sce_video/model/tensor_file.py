"""Files of tensors by others: read without unpickling, whatever the tensors are wrapped in."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sce_video.errors import UsageError, first_line
from sce_video.files import named, open_plain
from sce_video.model.pickle_file import conversion, parse
from sce_video.model.pickle_scan import BombError, check_pickles

# What torch.load says of a file that is whole, but would have to be unpickled.
_OBJECTS = re.compile(
    r"GLOBAL (?P<kind>[\w.]+) (was|whose)|allowlisted|unrecognized function|Can only "
    r"|TorchScript|legacy \.tar|Unsupported operand|Invalid magic number"
)
_REASON = re.compile(r"WeightsUnpickler error:\s+(.+)")  # among the advice to switch the check off
_ADVICE = re.compile(r"weights_only|allowlist|add_safe_globals|trust")  # to run its code
_MOST_PARTS = 1 << 20  # dicts, lists and what is in them
_MOST_TENSORS, _LONGEST_NAME = 100_000, 1_000

# Modules of torch around others, wherever they stand in a name.
_AROUND = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def plain_name(name: str) -> str:
    """A tensor's name without the modules that torch.compile and FSDP put around others."""
    return _AROUND.sub("", name)


@contextmanager
def open_safetensors(file: Path) -> Iterator[Any]:
    """Context: a file of safetensors by its header, of which no tensor is read yet.

    Raises:
        OSError: it cannot be read, or is no regular file; a link is followed.
        SafetensorError: it is none, or a damaged one.
    """
    os.close(open_plain(file, follow=True))  # the library waits for a pipe
    try:
        with named(file):
            opened = safe_open(file, framework="pt")
    except (RuntimeError, MemoryError) as error:  # of a file that no memory has addresses for
        raise SafetensorError(first_line(error)) from error
    with opened as stream:
        yield stream


def is_safetensors(file: Path) -> bool:
    """Whether a file is one of safetensors, whatever it is called."""
    try:
        with open_safetensors(file):
            return True
    except SafetensorError:
        return False


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Every tensor of a file, in its order, named by the keys on the way to it, joined by dots.

    ``{"state_dict": {"module.conv1.weight": tensor}}`` has ``state_dict.module.conv1.weight``.

    Raises:
        UsageError: not a file of tensors, one that could run code when opened, or that asks for
            more memory than it has bytes.
    """
    try:
        if file.suffix == ".safetensors" or is_safetensors(file):
            with open_safetensors(file) as stream:
                named = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        else:
            with warnings.catch_warnings(action="ignore"):  # the message below says it all
                check_pickles(file)
                content = torch.load(file, map_location="cpu", weights_only=True)
            named = dict(_walk(content))
    except Exception as error:  # of a file that is none of theirs the libraries raise anything
        if isinstance(error, OSError) and error.filename:  # the system's, not of the content
            raise
        raise UsageError(_refusal(file, error)) from error
    if len(named) > _MOST_TENSORS or max(map(len, named), default=0) > _LONGEST_NAME:
        raise UsageError(
            f"{file}: has more than {_MOST_TENSORS:,} tensors, or names of more than "
            f"{_LONGEST_NAME:,} characters; save those of the network alone"
        )
    tensors: dict[str, Tensor] = {}
    for name, tensor in named.items():
        plain = plain_name(name)
        tensors[name if plain in named or plain in tensors else plain] = tensor
    return tensors


def _refusal(file: Path, error: Exception) -> str:
    """Why a file is not opened, without the advice of torch to run the code in it."""
    what = _OBJECTS.search(str(error))
    if what and (pickled := parse(file)):
        return conversion(file, what["kind"], pickled)
    found = _REASON.search(str(error))
    reason = found[1] if found else first_line(error)
    if _ADVICE.search(reason):
        kind = what["kind"] if what else None
        reason = f"it names {kind}, which is no tensor" if kind else "it holds more than tensors"
    why = f"{reason}; take it again from where it came from"
    return f"{file}: not a file of tensors, or a damaged one: {why}"


def _walk(content: object) -> Iterator[tuple[str, Tensor]]:
    """The tensors in dicts and lists; a pickle may hold one in itself, which is not entered.

    Raises:
        BombError: they hold each other so often that to go through them would not end.
    """
    parts = 0

    def enter(
        value: object, path: tuple[str, ...], around: tuple[int, ...]
    ) -> Iterator[tuple[str, Tensor]]:
        nonlocal parts
        parts += 1
        if parts > _MOST_PARTS:
            raise BombError(f"its dicts and lists have more than {_MOST_PARTS:,} parts")
        if isinstance(value, Tensor) and value.is_nested:  # a list of tensors in one
            value = value.unbind()
        if isinstance(value, Tensor):
            yield ".".join(path), value
        elif isinstance(value, dict | list | tuple) and id(value) not in around:
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                yield from enter(part, (*path, str(key)), (*around, id(value)))

    return enter(content, (), ())
