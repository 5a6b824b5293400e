"""Trunks compiled: convolutions stay the library's, what lies between them is fused."""

from __future__ import annotations

import torch
from torch import nn

from sce_video.errors import UsageError, first_line
from sce_video.model.trunks.lab import LabTrunk


def compile_trunk(trunk: nn.Module) -> None:
    """Let ``torch.compile`` make code for ``trunk`` when it first runs.

    In place; parameters and buffers keep their names, results are the same but for rounding.

    Raises:
        UsageError: a compiler is missing or does not work.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.compile(torch.neg)(torch.zeros(8, device=device))
    except (RuntimeError, OSError) as error:
        raise UsageError(
            f"train.compile: cannot compile here ({first_line(error)}); install a C++ compiler "
            "(g++), or set train.compile=false"
        ) from error
    for network in trunk.children() if isinstance(trunk, LabTrunk) else [trunk]:
        network.compile(dynamic=False)
