"""Trunks compiled block by block: convolutions stay the library's, what lies between is fused."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn
from torchvision.models.video.resnet import VideoResNet

from sce_video.compiler import prepare, why_not
from sce_video.errors import UsageError
from sce_video.model.recompute import residual_blocks
from sce_video.model.trunks.r3d import PooledBlocks

log = logging.getLogger("sce_video")


def compile_trunks(
    trunks: Sequence[nn.Module], device: torch.device, stage: int, *, must: bool
) -> None:
    """Compile ``trunks``, or leave them eager where that cannot be, with one line that says why.

    A collective call: all ranks decide alike.

    Args:
        trunks: with no activations checkpointed yet.
        device: that will run them.
        stage: of ZeRO.
        must: raise where it cannot be.

    Raises:
        UsageError: a compiler is missing or does not work; on every rank, if one lacks it.
    """
    reason = "ZeRO stage 3 takes weights away" if stage == 3 else _first(why_not(device))
    if reason is None:
        for trunk in trunks:
            compile_trunk(trunk)
    elif must:
        raise UsageError(
            f"train.compile: cannot compile here ({reason}); install a C++ compiler "
            "(g++), or set train.compile=false"
        )
    elif not dist.is_initialized() or dist.get_rank() == 0:
        log.warning("train.compile: the trunks are not compiled and run slower: %s", reason)


def _first(reason: str | None) -> str | None:
    """The first rank's that has one."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return reason
    reasons: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(reasons, reason)
    return next((f"rank {n}: {each}" for n, each in enumerate(reasons) if each), None)


def compile_trunk(trunk: nn.Module) -> list[nn.Module]:
    """Let ``torch.compile`` make code for each part of ``trunk`` when it first runs.

    In place; parameters and buffers keep their names, results are the same but for rounding. A
    deep copy is not compiled. Parts of one kind share their code, and a checkpoint of activations
    fits around each. What is left eager is the pooling, and the stem of an image's ResNet, which is
    no module.

    Returns:
        The parts: stems and residual blocks.
    """
    prepare()
    parts = [module.stem for module in trunk.modules() if isinstance(module, VideoResNet)]
    parts += [module.blocks[0] for module in trunk.modules() if isinstance(module, PooledBlocks)]
    parts += residual_blocks(trunk)
    for part in parts:
        part.compile(dynamic=False)
    return parts
