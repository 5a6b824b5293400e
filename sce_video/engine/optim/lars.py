"""LARS, exact under sharding: norms are of whole parameters wherever their pieces live."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sce_video.engine.zero_layout import Segment


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling as the reference runs use it (You et al., 2017).

    ``d = g + wd * p``, scaled by ``trust * |p| / |d|`` where both norms are positive;
    ``mu = momentum * mu + d``; ``p = p - lr * mu``. Groups with ``adapt=False`` (biases and norm
    layers) take neither decay nor scaling.

    Under ZeRO the tensors of a group are flat buffers with pieces of many parameters:
    :meth:`bind` gives their layout, and one all-reduce a group completes the norms.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(groups, {**defaults, "adapt": True})
        self._segments: dict[int, list[Segment]] = {}  # by id of the buffer
        self._slots: dict[str, int] = {}
        self._device = torch.device("cpu")
        self._index: dict[int, Tensor] = {}  # slots of a buffer's pieces, where the buffer is

    def bind(
        self, segments: Iterable[Segment], slots: dict[str, int], device: torch.device
    ) -> None:
        """Tell which slice of which buffer belongs to which parameter.

        Args:
            segments: of this rank's buffers.
            slots: parameter name -> number, the same on every rank.
            device: of the process group; offloaded buffers are elsewhere.
        """
        self._slots, self._device = slots, device
        for segment in segments:
            self._segments.setdefault(id(segment.buffer), []).append(segment)
        for pieces in self._segments.values():  # made once: each time would wait for the device
            index = torch.tensor([slots[s.name] for s in pieces], device=pieces[0].buffer.device)
            self._index[id(pieces[0].buffer)] = index

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update. Every rank must call it equally often; there is no closure."""
        for group in self.param_groups:
            tensors = [p for p in group["params"] if p.grad is not None]
            if not tensors:  # ZeRO-3 steps group by group, the others empty, on every rank alike
                continue
            updates = [p.grad for p in tensors]
            if group["adapt"]:
                updates = [
                    g.add(p, alpha=group["weight_decay"])
                    for p, g in zip(tensors, updates, strict=True)
                ]
                self._scale(tensors, updates, group["trust"])
            for p, update in zip(tensors, updates, strict=True):
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(update)
                p.sub_(buffer, alpha=group["lr"])

    def _scale(self, tensors: list[Tensor], updates: list[Tensor], trust: float) -> None:
        """Scale each parameter's piece of ``updates`` by its trust ratio, in place."""
        if not self._slots:  # whole parameters
            weight, update = torch.stack(
                [torch.stack(torch._foreach_norm(x)) for x in (tensors, updates)]
            )
            ratios = _ratio(weight, update, trust)
            torch._foreach_mul_(updates, list(ratios.unbind()))
            return
        weights, pieces, slots = [], [], [tensors[0].new_zeros(0, dtype=torch.long)]
        for p, update in zip(tensors, updates, strict=True):
            for segment in self._segments.get(id(p), []):
                weights.append(segment.buffer_part(p))
                pieces.append(segment.buffer_part(update))
            slots += [self._index[id(p)]] if id(p) in self._index else []
        squares = tensors[0].new_zeros(2, len(self._slots))
        index = torch.cat(slots)
        for row, part in zip(squares, (weights, pieces), strict=True):
            if part:
                row.index_copy_(0, index, torch.stack(torch._foreach_norm(part)).square())
        everyones = squares.to(self._device)
        dist.all_reduce(everyones)  # also on a rank that owns no piece
        if pieces:
            weight, update = everyones.to(squares.device).sqrt().unbind()
            ratios = _ratio(weight, update, trust)
            torch._foreach_mul_(pieces, list(ratios[index].unbind()))


def _ratio(weight: Tensor, update: Tensor, trust: float) -> Tensor:
    return torch.where((weight > 0) & (update > 0), trust * weight / update, 1.0)
