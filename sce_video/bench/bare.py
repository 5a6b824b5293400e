"""A training step in plain torch, part by part."""

from __future__ import annotations

from typing import Any

from torch import nn

from sce_video.bench.clock import Clock
from sce_video.bench.made import MadeClips
from sce_video.engine.optim.build import build_optimizer
from sce_video.stream.feed import make_ready

COPY, AUGMENT = "copy to the device", "augmentation"
MOMENTUM, TRUNK, HEADS = "momentum branch, forward", "trunk, forward", "heads, forward"
LOSS, BACKWARD, OPTIMIZER = "loss, and what lies between", "backward", "optimizer"
MEMORY = "moving average and memory"
PARTS = (COPY, AUGMENT, MOMENTUM, TRUNK, HEADS, LOSS, BACKWARD, OPTIMIZER, MEMORY)

_NETWORKS = {  # by their place in a task's module
    "momentum": MOMENTUM,
    "online.trunk": TRUNK,
    "online.projector": HEADS,
    "online.projectors.0": HEADS,
    "online.projectors.1": HEADS,
    "predictor": HEADS,
    "trunk": TRUNK,
    "linear": HEADS,
}


class _Lapped(nn.Module):
    """A network that tells the clock when it has run."""

    def __init__(self, network: nn.Module, clock: Clock, part: str) -> None:
        super().__init__()
        self.network, self._clock, self._part = network, clock, part

    def forward(self, *inputs: Any) -> Any:
        """As the network's."""
        self._clock.lap(LOSS)
        out = self.network(*inputs)
        self._clock.lap(self._part)
        return out


def _lap(module: nn.Module, clock: Clock) -> None:
    """Let ``clock`` know of the networks in ``module``.

    Not by hooks: those of a compiled network would be compiled with it.
    """
    known = dict(module.named_modules())
    for path, part in _NETWORKS.items():
        if path in known:
            above, _, name = path.rpartition(".")
            setattr(known[above], name, _Lapped(known[path], clock, part))


class Bare:
    """Steps in plain torch, part by part, on a task's networks, which it takes over."""

    def __init__(self, task: MadeClips) -> None:
        self._task, self._device = task, task.runtime.device
        self._module = task.module.to(self._device)
        self._optimizer = build_optimizer(self._module, task.config.optim)
        self._clock, self._step = Clock(self._device), 0
        _lap(self._module, self._clock)

    def take(self, steps: int) -> list[dict[str, float]]:
        """Seconds of each part of ``steps`` steps; a GPU is waited for after the last."""
        for _ in range(steps):
            self._take()
        return self._clock.read()

    def _take(self) -> None:
        task, clock, micro_batches = self._task, self._clock, self._task.config.train.accumulate
        clock.start()
        for micro in range(micro_batches):
            batch = task.made(self._step * micro_batches + micro)
            batch.views = [view.to(self._device, non_blocking=True) for view in batch.views]
            clock.lap(COPY)
            ready = make_ready(batch, task.views, self._device)
            loss = task.loss(self._engine, ready, self._step).loss
            clock.lap(LOSS)
            (loss / micro_batches).backward()  # type: ignore[no-untyped-call]
            clock.lap(BACKWARD)
        self._optimizer.step()
        self._optimizer.zero_grad()
        clock.lap(OPTIMIZER)
        task.end_step(self._step)
        clock.lap(MEMORY)
        self._step += 1

    def _engine(self, *inputs: Any) -> Any:
        self._clock.lap(AUGMENT)
        return self._module(*inputs)
