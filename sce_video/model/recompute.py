"""Activation checkpointing: less memory for a second forward pass of every residual block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.video.resnet import BasicBlock as VideoBlock

from sce_video.model.trunks.r3d import ResBlock


def residual_blocks(trunk: nn.Module) -> list[nn.Module]:
    """The residual blocks of ``trunk``, in order."""
    kinds = BasicBlock | Bottleneck | VideoBlock | ResBlock
    return [module for module in trunk.modules() if isinstance(module, kinds)]


def checkpoint_activations(trunk: nn.Module) -> list[nn.Module]:
    """Keep the inputs of the residual blocks alone; the backward pass computes the rest again.

    In place; parameters and buffers keep their names, results are the same bit for bit. What is
    compiled stays so: the second pass runs the same code. A deep copy keeps everything. SyncBN asks
    the other ranks again, in the order of the backward pass, which is that of all ranks.

    Returns:
        The blocks.
    """
    blocks = residual_blocks(trunk)
    for block in blocks:
        call = block._compiled_call_impl or block._call_impl
        contexts = partial(_contexts, block)
        # Where torch puts compiled code, and around it: within it would be traced.
        again = partial(checkpoint, call, use_reentrant=False, context_fn=contexts)
        block._compiled_call_impl = again
    return blocks


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], ...]:
    """Around the first pass and around the second."""
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """BN normalises as before, but its running statistics must not move a second time."""
    kept = [
        (module, name, buffer)
        for module in block.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    for module, name, buffer in kept:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in kept:
            setattr(module, name, buffer)
