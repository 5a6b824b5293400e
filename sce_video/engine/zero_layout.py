"""Where DeepSpeed's ZeRO keeps each parameter: read from its optimizer and verified.

ZeRO hands the optimizer flat partitions; whatever needs whole parameters (LARS, checkpoints that
fit another number of ranks) needs this map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sce_video.errors import SceVideoError


@dataclass(frozen=True)
class Segment:
    """A piece of one parameter inside one of this rank's optimizer buffers, in elements."""

    name: str
    shape: torch.Size
    buffer: Tensor  # what the optimizer updates: the parameter itself, or a flat partition
    buffer_offset: int
    param_offset: int
    length: int

    def buffer_part(self, like: Tensor) -> Tensor:
        """This piece of a tensor laid out like :attr:`buffer` (the master, or optimizer state)."""
        return like.view(-1)[self.buffer_offset : self.buffer_offset + self.length]

    def param_part(self, full: Tensor) -> Tensor:
        """The same piece of the whole parameter."""
        return full.view(-1)[self.param_offset : self.param_offset + self.length]


def zero_layout(engine: Any) -> list[Segment]:
    """This rank's segments, in the order of the optimizer's groups.

    Args:
        engine: of ``deepspeed.initialize``, ZeRO stage 0, 1 or 2.

    Raises:
        SceVideoError: the pieces do not hold the parameters bit for bit, or not all of them (a
            DeepSpeed that lays things out differently).
    """
    names = {id(p): name for name, p in engine.module.named_parameters()}
    optimizer = engine.optimizer
    segments = []
    if engine.zero_optimization_stage() == 0:
        for group in optimizer.param_groups:
            for p in group["params"]:
                segments.append(Segment(names[id(p)], p.shape, p, 0, 0, p.numel()))
        return segments
    rank = dist.get_rank()
    for i, buffer in enumerate(optimizer.single_partition_of_fp32_groups):
        begin = rank * optimizer.partition_size[i]
        end = begin + optimizer.partition_size[i]
        offsets = optimizer.round_robin_bit16_offsets[i]
        for p, offset in zip(optimizer.round_robin_bit16_groups[i], offsets, strict=True):
            low, high = max(offset, begin), min(offset + p.numel(), end)
            if low < high:
                where = (low - begin, low - offset, high - low)
                segments.append(Segment(names[id(p)], p.shape, buffer, *where))
    _verify(engine, segments)
    return segments


def _verify(engine: Any, segments: list[Segment]) -> None:
    parameters = {n: p for n, p in engine.module.named_parameters() if p.requires_grad}
    names = {name: i for i, name in enumerate(parameters)}
    covered = torch.zeros(len(names), dtype=torch.long)
    for segment in segments:
        covered[names[segment.name]] += segment.length
        if not torch.equal(
            segment.buffer_part(segment.buffer.detach()),
            segment.param_part(parameters[segment.name].detach()),
        ):
            raise SceVideoError(
                f"ZeRO's partition does not hold {segment.name} where expected: "
                "this DeepSpeed version is not supported"
            )
    covered = covered.to(engine.device)
    dist.all_reduce(covered)
    for (name, p), count in zip(parameters.items(), covered.tolist(), strict=True):
        if count != p.numel():
            raise SceVideoError(f"ZeRO's partitions hold {count} of {p.numel()} elements of {name}")
