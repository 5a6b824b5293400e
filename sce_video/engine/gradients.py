"""The gradients of an optimizer step, as DeepSpeed holds them before it takes the step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sce_video.engine.zero_layout import Segment


class Gradients:
    """This rank's share of the gradients, averaged over ranks; all of them in stage 0.

    DeepSpeed's own checks and norms differ from stage to stage, and wait for the device up to
    three times a step. They are replaced by one norm that is asked for here, in all stages, and
    that travels with what the ranks agree on: DeepSpeed clips by it.
    """

    def __init__(self, engine: Any, segments: Iterable[Segment]) -> None:
        """Take the place of the engine's own checks.

        Args:
            engine: of ``deepspeed.initialize``, any stage.
            segments: of its optimizer, as :func:`zero_layout` gives them.
        """
        self._engine, self._optimizer = engine, engine.optimizer
        self._stage: int = engine.zero_optimization_stage()
        self._buffers = list({id(s.buffer): s.buffer for s in segments}.values())
        flags = ("cpu_offload", "offload_optimizer")  # of stages 1 and 2, of stage 3
        self._offloaded = any(getattr(self._optimizer, flag, False) for flag in flags)
        self._norm = torch.zeros(())
        if self._stage:
            self._optimizer.has_overflow = lambda *_, **__: False
            self._optimizer.scaled_global_norm = lambda *_, **__: self._norm  # stages 1 and 2
            self._optimizer._get_norm_groups = lambda: [self._norm]  # stage 3
        else:
            engine.clip_fp32_gradients = self._clip

    @torch.no_grad()
    def square(self, ranks: int) -> Tensor:
        """What this rank adds to the squared norm of all, a float64 scalar on the device.

        Not finite where a gradient is not. Summed over ``ranks`` it is the squared norm.
        """
        if self._offloaded and self._engine.device.type == "cuda":
            torch.cuda.synchronize(self._engine.device)  # the copies to the host
        tensors = self._tensors()
        if not tensors:  # a rank that holds no parameter
            return torch.zeros((), dtype=torch.float64, device=self._engine.device)
        square = torch.stack(torch._foreach_norm(tensors)).double().square().sum()
        return square.to(self._engine.device) / (1 if self._stage else ranks)

    def set_norm(self, norm: float) -> None:
        """Tell what the norm of all is, before the engine's step."""
        self._norm = torch.tensor(norm, dtype=torch.float64)  # on the host: it is not waited for

    def _tensors(self) -> list[Tensor]:
        if self._stage == 0 or self._offloaded:
            return [b.grad for b in self._buffers if b.grad is not None]
        groups = self._optimizer.averaged_gradients.values()
        return [gradient for group in groups for gradient in group if gradient is not None]

    @torch.no_grad()
    def _clip(self) -> None:
        """Stage 0: as :func:`torch.nn.utils.clip_grad_norm_`."""
        scale = self._engine.gradient_clipping() / (float(self._norm) + 1e-6)
        if scale < 1:
            torch._foreach_mul_(self._tensors(), scale)
