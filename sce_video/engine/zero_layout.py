"""Where DeepSpeed's ZeRO keeps each parameter: read from its optimizer and verified.

ZeRO hands the optimizer flat partitions; whatever needs whole parameters (LARS, checkpoints that
fit another number of ranks) needs this map.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sce_video.errors import SceVideoError


@dataclass(frozen=True)
class Segment:
    """A piece of one parameter inside one of this rank's optimizer buffers, in elements."""

    name: str
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
        engine: of ``deepspeed.initialize``, any ZeRO stage.

    Raises:
        SceVideoError: the pieces do not hold the parameters bit for bit, or not all of them (a
            DeepSpeed that lays things out differently).
    """
    names = {id(p): name for name, p in engine.module.named_parameters()}
    stage = engine.zero_optimization_stage()
    if stage == 0:
        groups = engine.optimizer.param_groups
        return [Segment(names[id(p)], p, 0, 0, p.numel()) for g in groups for p in g["params"]]
    segments = list((_shards if stage == 3 else _partitions)(engine.optimizer, names))
    with gathered(engine.module):
        _verify(engine, segments)
    return segments


@contextmanager
def gathered(module: nn.Module, modified: bool = False) -> Iterator[None]:
    """Context in which the parameters below ``module`` are whole, also those that ZeRO-3 shards.

    A collective call. With ``modified`` what rank 0 wrote into them goes back to every shard.
    """
    import deepspeed

    with deepspeed.zero.GatheredParameters(module.parameters(), 0 if modified else None):
        yield


def _partitions(optimizer: Any, names: dict[int, str]) -> Iterator[Segment]:
    """Stages 1 and 2: a group is one flat tensor, cut into as many pieces as there are ranks."""
    rank = dist.get_rank()
    for i, buffer in enumerate(optimizer.single_partition_of_fp32_groups):
        size = int(optimizer.partition_size[i])  # a float in older versions
        begin, end = rank * size, (rank + 1) * size
        parameters = optimizer.round_robin_bit16_groups[i]
        if hasattr(optimizer, "round_robin_bit16_offsets"):  # DeepSpeed 0.19.7 and later
            offsets = optimizer.round_robin_bit16_offsets[i]
        else:
            offsets = [0, *accumulate(p.numel() for p in parameters)][: len(parameters)]
        for p, offset in zip(parameters, offsets, strict=True):
            low, high = max(offset, begin), min(offset + p.numel(), end)
            if low < high:
                yield Segment(names[id(p)], buffer, low - begin, low - offset, high - low)


def _shards(optimizer: Any, names: dict[int, str]) -> Iterator[Segment]:
    """Stage 3: every parameter is cut; a buffer holds this rank's shards one after the other."""
    rank = dist.get_rank()
    groups = zip(optimizer.fp32_partitioned_groups_flat, optimizer.fp16_groups, strict=True)
    for buffer, parameters in groups:
        offset = 0
        for p in parameters:
            shard = p.partition_numel()
            length = min(shard, p.ds_numel - rank * shard)  # beyond it: padding, never written
            if length > 0:
                yield Segment(names[id(p)], buffer, offset, rank * shard, length)
            offset += shard


def _verify(engine: Any, segments: list[Segment]) -> None:
    parameters = {n: p for n, p in engine.module.named_parameters() if p.requires_grad}
    covered = dict.fromkeys(parameters, 0)
    for segment in segments:
        covered[segment.name] += segment.length
        if not torch.equal(
            segment.buffer_part(segment.buffer.detach()),
            segment.param_part(parameters[segment.name].detach()).to(segment.buffer.device),
        ):
            raise SceVideoError(
                f"ZeRO's partition does not hold {segment.name} where expected: "
                "this DeepSpeed version is not supported"
            )
    counts = torch.tensor(list(covered.values()), device=engine.device)
    dist.all_reduce(counts)
    for (name, p), count in zip(parameters.items(), counts.tolist(), strict=True):
        if count != p.numel():
            raise SceVideoError(f"ZeRO's partitions hold {count} of {p.numel()} elements of {name}")
