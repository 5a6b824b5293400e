"""Counts what would wait for a GPU, in a step that runs on a CPU.

A tensor is the host's if it was made without a device, or of others of the host's alone; every
other one would be on the GPU. To read one of those waits for all that is queued. So does a copy
from the host that is not said to be non-blocking, and what has a size that the values decide.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

_READS = {
    *(Tensor.item, Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.is_nonzero),
    *(Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.__index__),
    *(Tensor.nonzero, torch.nonzero, torch.argwhere, Tensor.argwhere),
    *(Tensor.masked_select, torch.masked_select, Tensor.unique, torch.unique),
    *(torch.bincount, Tensor.bincount, torch.repeat_interleave, Tensor.repeat_interleave),
    *(torch.equal, Tensor.equal, torch.allclose, Tensor.allclose),
}
_COPIES = {torch.tensor, torch.as_tensor, Tensor.new_tensor}
_INDEXING = {Tensor.__getitem__, Tensor.__setitem__}


class Waits(TorchFunctionMode):
    """Notes each wait with the lines that made it, in :attr:`found`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._host: Any = WeakIdKeyDictionary()

    def host(self, tensor: Tensor) -> Tensor:
        """Let ``tensor`` be the host's."""
        self._host[tensor] = True
        return tensor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See torch."""
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        of_host = all(x in self._host for x in tensors)
        placed = kwargs.get("device") is not None
        moved = func is Tensor.to and any(map(_device, (*args[1:], *kwargs.values())))
        if self._waits(func, args, kwargs, of_host, placed, moved):
            lines = [f for f in traceback.extract_stack() if not f.filename.endswith("waits.py")]
            places = [f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in lines[:-5:-1]]
            self.found.append(f"{func.__name__} at {' < '.join(places)}")
        made = func(*args, **kwargs)
        for x in tree_leaves(made):
            if isinstance(x, Tensor) and (moved or (of_host and not placed)):
                self._host.pop(x, None) if moved else self.host(x)
        return made

    @staticmethod
    def _waits(func: Any, args: Any, kwargs: Any, of_host: bool, placed: bool, moved: bool) -> bool:
        if func in _COPIES:
            return placed or not of_host
        if of_host:
            return moved and not kwargs.get("non_blocking")
        if func in _INDEXING:
            return any(
                isinstance(x, Tensor) and x.dtype is torch.bool for x in tree_leaves(args[1])
            )
        return func in _READS or (func is torch.where and len(args) == 1)


def _device(x: Any) -> bool:
    return isinstance(x, torch.device) or (isinstance(x, str) and x != "cpu")


@contextmanager
def waits_of(kind: type, name: str) -> Iterator[list[list[str]]]:
    """Context in which each call of ``kind``'s method adds the list of its waits."""
    calls: list[list[str]] = []
    method, from_numpy = getattr(kind, name), torch.from_numpy

    def watched(*args: Any) -> Any:
        waits = Waits()
        taken = patch.object(torch, "from_numpy", lambda array: waits.host(from_numpy(array)))
        with waits, taken:
            try:
                return method(*args)
            finally:
                calls.append(waits.found)

    with patch.object(kind, name, watched):
        yield calls
