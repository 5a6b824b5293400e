"""Whether a folder is the checkpoint that was written: its files, their sums, and what is inside.

Nothing that a file names is opened: the names are :data:`NAMES`, and a link is none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sce_video.documents import DocumentError, read_json
from sce_video.files import sha256_file

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
NAMES = (MODEL, OPTIMIZER, STATE)
"""Files of a checkpoint: its manifest names these, and no other."""
MANIFEST = "manifest.json"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_RANKS = 1 << 20
_SHOWN = 3  # tensors that a message names


class BadCheckpointError(ValueError):
    """Why a folder is no checkpoint, in a few words."""


def read_state(path: Path) -> dict[str, Any]:
    """The state of a checkpoint whose files are those that were written.

    Args:
        path: ``.../step-00000100``.

    Raises:
        BadCheckpointError: they are not.
    """
    sums = _read(path / MANIFEST)
    named = isinstance(sums, dict) and sums.keys() == set(NAMES)
    if not named or not all(isinstance(s, str) and _SHA256.fullmatch(s) for s in sums.values()):
        raise BadCheckpointError(f"{MANIFEST} does not name what a checkpoint holds")
    for name in NAMES:
        try:
            same = sha256_file(path / name, follow=False) == sums[name]
        except OSError as error:
            raise BadCheckpointError(f"{name}: {error.strerror}") from error
        if not same:
            raise BadCheckpointError(f"{name} is not what its manifest names")
    state = _read(path / STATE)
    there = [key for key in _STATE_KEYS if key in state or key in _NEEDED]
    wrong = [key for key in there if not _STATE_KEYS[key](state.get(key))]
    if wrong:
        raise BadCheckpointError(f"{STATE}: {', '.join(wrong)}: not what a run writes")
    if state["step"] != int(path.name.removeprefix("step-")):
        raise BadCheckpointError(f"{STATE} is of step {state['step']}")
    return state


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, dict)
    except OSError as error:
        raise BadCheckpointError(f"no readable {path.name}: {error.strerror}") from error
    except DocumentError as error:
        raise BadCheckpointError(f"no readable {path.name}: {error}") from error


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


_STATE_KEYS: dict[str, Callable[[Any], bool]] = {
    "step": _is_count,
    "run_id": lambda value: isinstance(value, str) and value.isalnum() and len(value) <= 64,
    "data": lambda value: isinstance(value, str) and _SHA256.fullmatch(value) is not None,
    "consumed": _is_count,
    "data_cpu": lambda value: type(value) in (int, float) and value >= 0,
    "ranks": lambda value: _is_count(value) and 0 < value < _MOST_RANKS,
    "config": lambda value: isinstance(value, dict),
}
"""Key of ``state.json`` -> whether a value is one that a run writes."""
_NEEDED = ("step", "run_id", "data")
"""Those that checkpoints of older versions have, too."""


def unlike(found: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> str | None:
    """How tensors differ from what a network has, in a few words; None where they do not.

    Args:
        found: of a checkpoint, by name.
        wanted: by name, anything that has the shape and the dtype.
    """
    names = [name for name in (*found, *wanted) if (name in found) != (name in wanted)]
    names += [
        f"{name} {list(tensor.shape)} {tensor.dtype}"
        for name, tensor in found.items()
        if name in wanted
        and (tensor.shape, tensor.dtype) != (wanted[name].shape, wanted[name].dtype)
    ]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}" if names else None
